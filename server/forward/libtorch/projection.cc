#include "forward/libtorch/projection.h"

#include "base/status.h"
#include "forward/libtorch/compute_threads.h"

namespace linchpin {

absl::Span<float> FloatsOf(const at::Tensor& tensor) {
  return absl::MakeSpan(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()));
}

absl::StatusOr<at::Tensor> LoadTensor(const WeightReader& weights, const ExpectedTensor& expected) {
  if (expected.name.empty()) return at::Tensor();
  at::Tensor out = at::empty(expected.shape, at::kFloat);
  RETURN_IF_ERROR(weights.ReadTensor(expected, FloatsOf(out)));
  return out;
}

absl::StatusOr<at::Tensor> Project(const WeightReader& weights, const LinearTensors& linear,
                                   const at::Tensor& x, const RunContext& context) {
  ComputeOnThisThread();
  ASSIGN_OR_RETURN(const at::Tensor bias, LoadTensor(weights, linear.bias));
  at::Tensor out;
  if (linear.transposed) {
    // All of them at once, as their rows are what is summed over.
    const at::Tensor weight = at::empty(linear.weight.shape, at::kFloat);
    RETURN_IF_ERROR(weights.ReadWeight(linear, context, FloatsOf(weight)));
    out = at::mm(x.t(), weight).t();
  } else {
    const at::Tensor input = x.t().contiguous();
    out = at::empty({x.size(1), linear.weight.shape[0]}, at::kFloat).t();
    RETURN_IF_ERROR(weights.Multiply(linear,
                                     {input.data_ptr<float>(), input.size(0), input.size(1)},
                                     out.data_ptr<float>(), context));
  }
  if (bias.defined()) out.add_(bias.unsqueeze(1));
  return out;
}

absl::StatusOr<at::Tensor> LoadChannel(const WeightReader& weights, const LinearTensors& linear,
                                       int64_t channel) {
  at::Tensor row = at::empty({linear.weight.shape[linear.transposed ? 0 : 1]}, at::kFloat);
  RETURN_IF_ERROR(weights.ReadChannel(linear, channel, FloatsOf(row)));
  return row;
}

}  // namespace linchpin
