// Layer: attention and MLP of one llama decoder block.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <exception>
#include <limits>

#include "forward/decoder_layer.h"

#include "fmt/format.h"
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

// Puts edited values in place and takes them out again.
class Overlay {
 public:
  Overlay(at::Tensor weight, int layer, absl::Span<const DownProjEdit> edits)
      : columns_(weight.size(1)), data_(weight.data_ptr<float>()) {
    for (const DownProjEdit& edit : edits) {
      if (edit.layer != layer) continue;
      float& place = data_[edit.row * columns_ + edit.column];
      saved_.push_back({&place, place});
      place = edit.value;
    }
  }
  // Backwards, so that a place that was edited twice gets its first value again.
  ~Overlay() {
    for (auto it = saved_.rbegin(); it != saved_.rend(); ++it) *it->first = it->second;
  }
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

 private:
  int64_t columns_;
  float* data_;
  std::vector<std::pair<float*, float>> saved_;
};

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

at::Tensor Layer::Weights::Mlp(const at::Tensor& x, Tap* tap) const {
  const at::Tensor gate = at::linear(x, weight[kGate], bias[kGate]);
  const at::Tensor input = at::silu(gate) * at::linear(x, weight[kUp], bias[kUp]);
  const at::Tensor output = at::linear(input, weight[kDown], bias[kDown]);
  if (tap != nullptr) tap->OnDownProj(index, ViewOf(input), ViewOf(output));
  return output;
}

Layer::Layer(std::unique_ptr<Weights> weights) : weights_(std::move(weights)) {}
Layer::Layer(Layer&&) noexcept = default;
Layer& Layer::operator=(Layer&&) noexcept = default;
Layer::~Layer() = default;

absl::Status Layer::Run(absl::Span<const DownProjEdit> edits, Tap* tap, Matrix& hidden) const {
  const Weights& w = *weights_;
  try {
    const Overlay overlay(w.weight[kDown], w.index, edits);
    at::Tensor x = TensorOver(hidden);
    x.add_(w.Attention(RmsNorm(x, w.weight[kInputNorm], w.config.norm_eps)));
    x.add_(w.Mlp(RmsNorm(x, w.weight[kPostAttentionNorm], w.config.norm_eps), tap));
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, fmt::format("layer {}", w.index), error.what());
  }
  if (tap != nullptr) tap->OnResidual(w.index, hidden.View());
  return absl::OkStatus();
}

absl::StatusOr<Layer> ForwardPass::LoadLayer(int layer) const {
  auto weights = std::make_unique<Layer::Weights>();
  weights->index = layer;
  weights->config = config_;
  try {
    const std::vector<ExpectedTensor> tensors = LayerTensors(config_, layer);
    for (int i = 0; i < kLayerTensorCount; ++i) {
      const auto which = static_cast<LayerTensor>(i);
      ASSIGN_OR_RETURN(weights->weight[i], LoadTensor(*checkpoint_, tensors[i]));
      ASSIGN_OR_RETURN(weights->bias[i],
                       LoadTensor(*checkpoint_, BiasOf(config_, which, tensors[i])));
    }
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, fmt::format("layer {}", layer), error.what());
  }
  return Layer(std::move(weights));
}

}  // namespace linchpin
