// Brings tensors of a checkpoint into LibTorch as float32.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "forward/layer_tensors.h"
#include "tensor/matrix.h"

namespace linchpin {

// TENSOR_MISSING, TENSOR_SHAPE_INVALID or DTYPE_UNSUPPORTED unless the
// checkpoint holds `expected` with its shape in F32, F16 or BF16.
absl::Status CheckTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected);

// Rows of a tensor (elements of a vector) from `first` on, as float32, into
// `out`: contiguous, as many rows as it has.  Thread-safe for distinct `out`.
absl::Status LoadRows(const Checkpoint& checkpoint, const StoredTensor& tensor, int64_t first,
                      at::Tensor out);

// Rows [first, first + count) as above, in a new tensor.
absl::StatusOr<at::Tensor> LoadRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                    int64_t first, int64_t count);

// Reads whole tensors that passed CheckTensor, side by side in slabs of rows.
// A tensor in `out` that has the shape already is filled in place; an empty
// name leaves an undefined tensor.
absl::Status LoadTensors(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                         const RunContext& context, absl::Span<at::Tensor> out);

// A tensor over the matrix's own memory.
at::Tensor TensorOver(Matrix& matrix);
at::Tensor TensorOver(const Matrix& matrix);

// x / sqrt(mean(x^2) + eps) * gain, over the last dimension (Zhang and
// Sennrich, arXiv 1910.07467).
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps);

}  // namespace linchpin
