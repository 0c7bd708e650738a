// Where a weight stands among the weights of its matrix.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/checkpoint.h"
#include "forward/model_tensors.h"
#include "tensor/weight_position.h"

namespace linchpin {

struct Standing {
  int64_t rank = 0;       // 1 + the number of weights of the matrix that are larger
  float over_column = 0;  // |value| over the median |weight| of its column
  int64_t elements = 0;   // of the matrix
};

// Where the weight `value` of an input channel `column` stands.  Reads the
// matrix once, in slabs.
absl::StatusOr<Standing> StandingOf(const Checkpoint& checkpoint, const LinearTensors& linear,
                                    int64_t column, float value);

// The `count` weights of `linear` nearest in magnitude to `value` that stand in
// none of the rows and columns of `excluded`: what a null is drawn from.  By
// distance, then by position.
absl::StatusOr<std::vector<PinnedWeight>> NearestInMagnitude(
    const Checkpoint& checkpoint, const LinearTensors& linear, float value,
    absl::Span<const WeightPosition> excluded, int count);

}  // namespace linchpin
