// Products of a weight matrix with activations.
//
// Activations are float32 and channels first, [channels, tokens]; a token's
// channels lie side by side in memory, so that one projection feeds the next
// without a copy.
#pragma once

#include <ATen/ATen.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "forward/computation.h"
#include "forward/model_tensors.h"

namespace linchpin {

absl::Span<float> FloatsOf(const at::Tensor& tensor);

// A whole tensor as float32; undefined for an empty name.
absl::StatusOr<at::Tensor> LoadTensor(const WeightReader& weights, const ExpectedTensor& expected);

// W x + b, [out, tokens], of x [in, tokens], on the context's threads.
absl::StatusOr<at::Tensor> Project(const WeightReader& weights, const LinearTensors& linear,
                                   const at::Tensor& x, const RunContext& context);

// One output channel of W, [in], float32, as a copy.
absl::StatusOr<at::Tensor> LoadChannel(const WeightReader& weights, const LinearTensors& linear,
                                       int64_t channel);

}  // namespace linchpin
