// Do a checkpoint's tensors make the model that its config describes?
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "checkpoint/checkpoint.h"
#include "forward/model_tensors.h"

namespace linchpin {

// TENSOR_MISSING, TENSOR_SHAPE_INVALID or DTYPE_UNSUPPORTED unless the checkpoint
// holds each of `tensors` with its shape in a type that ReadRows reads;
// CONFIG_INVALID if a bias is stored beside a weight that has none among them.
absl::Status CheckTensors(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& tensors);

// NOT_FINITE naming the one of a layer's `tensors` that made its output what it is,
// if one did.
absl::Status NotFinite(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& tensors,
                       int layer);

}  // namespace linchpin
