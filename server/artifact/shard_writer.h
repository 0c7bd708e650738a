// Fills the files of tensors, with their digests on the heels of what is written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "artifact/journal.h"
#include "artifact/running_digest.h"
#include "artifact/shard_files.h"
#include "artifact/tensor_writer.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "quantize/plan.h"

namespace linchpin {

class ShardWriter {
 public:
  // All must outlive this.
  ShardWriter(const Checkpoint& checkpoint, const Plan& plan, const ShardFiles& shards);

  // Every tensor of the plan, in its order, but what `journal` knows to stand there;
  // threads take them file after file.  Reports the stage quantize.  Once.
  absl::StatusOr<std::vector<TensorRecord>> Write(const Importance* importance,
                                                  const Journal& journal,
                                                  const RunContext& context);

  // Of the files, once they are written.
  absl::StatusOr<std::vector<FileRecord>> Digests(const RunContext& context);

 private:
  struct RowInHand;

  RunningDigest& DigestOf(const TensorSlot& slot) { return *digests_[file_of_.at(slot.file)]; }
  size_t FileOf(size_t row) const;
  // All but the tensors.
  absl::Status Begin(const RunContext& context);
  absl::StatusOr<TensorRecord> WriteRow(size_t row, const Importance* importance,
                                        const Journal& journal, const RunContext& context,
                                        ProgressMeter& meter);
  void NoMore();

  const Checkpoint& checkpoint_;
  const Plan& plan_;
  const ShardFiles& shards_;
  std::vector<std::unique_ptr<RunningDigest>> digests_;  // by file
  std::map<const WritableFile*, size_t> file_of_;        // of a digest
  std::vector<std::vector<TensorSlot>> slots_;           // by row, through the digests
};

}  // namespace linchpin
