// Layer: attention and MLP of one llama decoder block.
#include "forward/decoder_layer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <exception>
#include <limits>
#include <map>

#include "base/status.h"
#include "fmt/format.h"
#include "forward/compute_threads.h"
#include "forward/forward_pass.h"
#include "forward/rotary.h"
#include "forward/tensor_loading.h"

namespace linchpin {
namespace {

MatrixView ViewOf(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), tensor.size(0), tensor.size(1)};
}

// [tokens, heads x head_dim] -> [heads, tokens, head_dim]
at::Tensor SplitHeads(const at::Tensor& x, int64_t heads, int64_t head_dim) {
  return x.view({x.size(0), heads, head_dim}).transpose(0, 1);
}

}  // namespace

at::Tensor Layer::Weights::Attention(const at::Tensor& x) const {
  const int64_t tokens = x.size(0);
  const auto project = [&](LayerTensor which) { return at::linear(x, weight[which], bias[which]); };
  const RotaryTable rotary = MakeRotaryTable(config, tokens);
  const at::Tensor q = Rotate(SplitHeads(project(kQuery), config.heads, config.head_dim), rotary);
  const int64_t shared = config.heads / config.kv_heads;
  const at::Tensor k = Rotate(SplitHeads(project(kKey), config.kv_heads, config.head_dim), rotary)
                           .repeat_interleave(shared, 0);
  const at::Tensor v =
      SplitHeads(project(kValue), config.kv_heads, config.head_dim).repeat_interleave(shared, 0);
  const at::Tensor future = at::ones({tokens, tokens}, at::kBool).triu(1);
  const at::Tensor scores =
      (at::matmul(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(config.head_dim)))
          .masked_fill(future, -std::numeric_limits<float>::infinity());
  const at::Tensor mixed = at::matmul(scores.softmax(-1), v).transpose(0, 1).reshape({tokens, -1});
  return at::linear(mixed, weight[kAttentionOutput], bias[kAttentionOutput]);
}

at::Tensor Layer::Weights::Mlp(const at::Tensor& x, absl::Span<const DownProjEdit> edits,
                               Tap* tap) const {
  const at::Tensor gate = at::linear(x, weight[kGate], bias[kGate]);
  const at::Tensor input = at::silu(gate) * at::linear(x, weight[kUp], bias[kUp]);
  at::Tensor output = at::linear(input, weight[kDown], bias[kDown]);
  ApplyEdits(input, edits, output);
  if (tap != nullptr) tap->OnDownProj(index, ViewOf(input), ViewOf(output));
  return output;
}

void Layer::Weights::ApplyEdits(const at::Tensor& input, absl::Span<const DownProjEdit> edits,
                                at::Tensor& output) const {
  std::map<int64_t, at::Tensor> rows;
  for (const DownProjEdit& edit : edits) {
    if (edit.layer != index) continue;
    const auto [row, added] = rows.try_emplace(edit.row);
    if (added) row->second = weight[kDown][edit.row].clone();
    row->second[edit.column] = edit.value;
  }
  for (const auto& [channel, row] : rows) {
    at::Tensor column = input.mv(row);
    if (bias[kDown].defined()) column += bias[kDown][channel];
    output.select(1, channel).copy_(column);
  }
}

Layer::Layer() = default;
Layer::Layer(Layer&&) noexcept = default;
Layer& Layer::operator=(Layer&&) noexcept = default;
Layer::~Layer() = default;

absl::Status Layer::Run(absl::Span<const DownProjEdit> edits, Tap* tap, Matrix& hidden) const {
  const Weights& w = *weights_;
  try {
    ComputeOnThisThread();
    at::Tensor x = TensorOver(hidden);
    x.add_(w.Attention(RmsNorm(x, w.weight[kInputNorm], w.config.norm_eps)));
    x.add_(w.Mlp(RmsNorm(x, w.weight[kPostAttentionNorm], w.config.norm_eps), edits, tap));
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, fmt::format("layer {}", w.index), error.what());
  }
  if (tap != nullptr) tap->OnResidual(w.index, hidden.View());
  return absl::OkStatus();
}

absl::Status ForwardPass::LoadLayer(int index, const RunContext& context, Layer& layer) const {
  if (layer.weights_ == nullptr) layer.weights_ = std::make_unique<Layer::Weights>();
  Layer::Weights& weights = *layer.weights_;
  weights.index = index;
  weights.config = config_;
  const std::vector<ExpectedTensor> expected = LayerTensors(config_, index);
  std::vector<ExpectedTensor> biases;
  for (int i = 0; i < kLayerTensorCount; ++i) {
    biases.push_back(BiasOf(config_, static_cast<LayerTensor>(i), expected[i]));
  }
  try {
    RETURN_IF_ERROR(LoadTensors(*checkpoint_, expected, context, absl::MakeSpan(weights.weight)));
    return LoadTensors(*checkpoint_, biases, context, absl::MakeSpan(weights.bias));
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, fmt::format("layer {}", index), error.what());
  }
}

}  // namespace linchpin
