// Streams one tensor from the source to its place in the output.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/progress_meter.h"
#include "artifact/shard_files.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "quantize/plan.h"
#include "tensor/importance.h"

namespace linchpin {

// What the output holds in place of one source tensor.
struct TensorRecord {
  std::string name;    // of the source tensor
  std::string action;  // "quantized" | "preserved" | "copied" | "equalized"
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  double max_error = 0;
  double rms_error = 0;
  std::string sha256;  // of the output tensors' bytes, in plan order
};

TensorAction ActionOf(const PlanRow& row);
// What the plan says of it, without errors and digest.
TensorRecord BeginRecord(const PlanRow& row);

// Writes what does not depend on the weights, as the shapes of packed tensors, which
// stand at the beginning of a file.  Returns the slots that are left to WriteTensor.
absl::StatusOr<std::vector<TensorSlot>> WriteConstants(const QuantizeOptions& options,
                                                       const PlanRow& row,
                                                       const std::vector<TensorSlot>& slots);

// Writes all but that: encodes, converts or copies the tensor of `row` in slabs of a few MiB of
// whole rows.  `importance` may be null.  NOT_FINITE names the first NaN or Inf of a weight or
// bias.  Thread-safe for distinct rows.
absl::StatusOr<TensorRecord> WriteTensor(const Checkpoint& checkpoint,
                                         const QuantizeOptions& options, const PlanRow& row,
                                         const Importance* importance,
                                         const std::vector<TensorSlot>& slots,
                                         const RunContext& context, ProgressMeter& meter);

}  // namespace linchpin
