// Where a weight stands among the weights of its matrix.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/model_tensors.h"
#include "tensor/weight_position.h"

namespace linchpin {

// Reads each matrix that it is asked about once, in slabs, on the threads of the context, and
// a column's matrix once for each column: activations by the hundred may have their products in
// one matrix.  Not thread-safe.
class Magnitudes {
 public:
  // All must outlive it.
  Magnitudes(const Checkpoint& checkpoint, const DetectOptions& options)
      : checkpoint_(checkpoint), options_(options) {}

  // 1 + the number of weights of the matrix that are larger than `value`; nothing where it is
  // not among as many as the options let an outlier be (top_weights, top_weight_fraction).
  absl::StatusOr<std::optional<int64_t>> RankOf(const LinearTensors& linear, float value,
                                                const RunContext& context);

  // |value| over the median |weight| of an input channel's column.
  absl::StatusOr<float> OverColumn(const LinearTensors& linear, int64_t column, float value,
                                   const RunContext& context);

 private:
  const Checkpoint& checkpoint_;
  const DetectOptions& options_;
  std::map<std::string, std::vector<float>> largest_;  // of a tensor, falling magnitudes
  std::map<std::pair<std::string, int64_t>, float> column_medians_;
};

// The `count` weights of `linear` nearest in magnitude to `value` that stand in
// none of the rows and columns of `excluded`: what a null is drawn from.  By
// distance, then by position.
absl::StatusOr<std::vector<PinnedWeight>> NearestInMagnitude(
    const Checkpoint& checkpoint, const LinearTensors& linear, float value,
    absl::Span<const WeightPosition> excluded, int count);

}  // namespace linchpin
