// Brings tensors of a checkpoint into LibTorch as float32.
#pragma once

#include <cstdint>

#include <ATen/ATen.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "forward/layer_tensors.h"
#include "tensor/matrix.h"

namespace linchpin {

// TENSOR_MISSING, TENSOR_SHAPE_INVALID or DTYPE_UNSUPPORTED unless the
// checkpoint holds `expected` with its shape in F32, F16 or BF16.
absl::Status CheckTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected);

// Rows [first, first + count) of a tensor (elements of a vector), as float32.
absl::StatusOr<at::Tensor> LoadRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                    int64_t first, int64_t count);

// The whole of a tensor that passed CheckTensor, as float32; an undefined
// tensor for an empty name.
absl::StatusOr<at::Tensor> LoadTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected);

// A tensor over the matrix's own memory.
at::Tensor TensorOver(Matrix& matrix);
at::Tensor TensorOver(const Matrix& matrix);

// x / sqrt(mean(x^2) + eps) * gain, over the last dimension (Zhang and
// Sennrich, arXiv 1910.07467).
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps);

}  // namespace linchpin
