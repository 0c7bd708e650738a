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

// 1 + the number of elements of `tensor` larger than |value|.  Reads the matrix
// once, in slabs.
absl::StatusOr<int64_t> MagnitudeRank(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                      float value);

// The `count` weights of `linear` nearest in magnitude to `value` that stand in
// none of the rows and columns of `excluded`: what a null is drawn from.  By
// distance, then by position.
absl::StatusOr<std::vector<PinnedWeight>> NearestInMagnitude(
    const Checkpoint& checkpoint, const LinearTensors& linear, float value,
    absl::Span<const WeightPosition> excluded, int count);

}  // namespace linchpin
