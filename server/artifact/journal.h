// What a run notes of the tensors that it has finished, so that the same run, begun
// again after it was killed, need not make them again.
//
// Nothing that the notes say is taken on trust: they count for the very source and
// plan that they were made with, and a tensor counts as finished where the bytes that
// stand in the output have the digest that was noted.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "artifact/shard_files.h"
#include "artifact/tensor_writer.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// Thread-safe but for Open.
class Journal {
 public:
  // Reads what was noted before.  Keeps nothing where `output` does not, or where the
  // store of the source cannot tell its versions apart.  `output` must outlive this.
  static absl::StatusOr<Journal> Open(const Checkpoint& checkpoint, const Plan& plan,
                                      const Importance* importance, OutputDirectory& output);

  // The record of a row of the plan whose bytes stand in `slots` already.
  absl::StatusOr<std::optional<TensorRecord>> Find(size_t row, const std::vector<TensorSlot>& slots,
                                                   const RunContext& context) const;
  // A row is written.
  absl::Status Note(size_t row, const TensorRecord& record) const;

 private:
  Journal() = default;

  OutputDirectory* output_ = nullptr;  // null: nothing is kept
  std::map<size_t, TensorRecord> earlier_;
};

// 64 hexadecimal digits of all that an output's tensors depend on: the source as it
// was opened, the plan, the importance of channels.
std::string IdentityOf(const Checkpoint& checkpoint, const Plan& plan,
                       const Importance* importance);

}  // namespace linchpin
