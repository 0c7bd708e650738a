// Products of a weight matrix with activations, the weights read in slabs of
// rows while they are used, so that no matrix is ever whole in memory.
//
// Activations are float32 and channels first, [channels, tokens]; a token's
// channels lie side by side in memory, so that one projection feeds the next
// without a copy.
#pragma once

#include <ATen/ATen.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "forward/linear_lens.h"
#include "forward/model_tensors.h"
#include "forward/row_products.h"

namespace linchpin {

// The weights of linear layers: a checkpoint's, through a lens where there is one.
struct LinearWeights {
  const Checkpoint& checkpoint;
  const LinearLens* lens = nullptr;  // may be null
};

// TENSOR_MISSING, TENSOR_SHAPE_INVALID or DTYPE_UNSUPPORTED unless the
// checkpoint holds `expected` with its shape in a type that ReadRows reads.
absl::Status CheckTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected);

// A whole tensor as float32; undefined for an empty name.
absl::StatusOr<at::Tensor> LoadTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected);

// Rows [first, first + count) of a matrix as they are stored, or as float32 where
// they are encoded or scaled.  They stay in `memory`, which grows as it must.
absl::StatusOr<StoredRows> ReadStoredRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                          int64_t first, int64_t count, at::Tensor& memory);

// W x + b, [out, tokens], of x [in, tokens].  Slabs of W are spread over the
// context's threads; the result does not depend on their number.  Weights of 16
// bits are multiplied as they are stored (forward/row_products.h).
absl::StatusOr<at::Tensor> Project(const LinearWeights& weights, const LinearTensors& linear,
                                   const at::Tensor& x, const RunContext& context);

// One output channel of W, [in], float32, as a copy.
absl::StatusOr<at::Tensor> LoadChannel(const LinearWeights& weights, const LinearTensors& linear,
                                       int64_t channel);

// False if an element of the tensor is NaN or infinite.
absl::StatusOr<bool> IsFinite(const Checkpoint& checkpoint, const ExpectedTensor& expected);

}  // namespace linchpin
