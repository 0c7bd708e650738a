// Reads single weights of an artifact the way a consumer does.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "checkpoint/checkpoint.h"
#include "tensor/tensor_info.h"
#include "tensor/weight_position.h"

namespace linchpin {

// What a consumer of the output reads at a super weight's place.
struct KeptWeight {
  PinnedWeight weight;
  float stored_value = 0;
  std::string how;  // "tensor" | "scale" | "none"
  bool exact = false;

  friend bool operator==(const KeptWeight&, const KeptWeight&) = default;
};

// A tensor of an artifact and its bytes.
struct StoredBytes {
  TensorInfo info;
  ReadRange read;
};

// The value that a consumer reads at `position`, dequantized from the output's
// bytes (packed and scale, or the plain tensor) and rounded to the dtype.
// TENSOR_MISSING or TENSOR_SHAPE_INVALID where the tensors are not as the
// format has them.
absl::StatusOr<float> ReadBack(const std::map<std::string, StoredBytes>& tensors,
                               const WeightPosition& position);
absl::StatusOr<float> ReadBack(const Checkpoint& output, const WeightPosition& position);

}  // namespace linchpin
