// The weights of one decoder layer as LibTorch holds them.
#pragma once

#include <ATen/ATen.h>

#include <array>

#include "forward/forward_pass.h"
#include "forward/layer_tensors.h"

namespace linchpin {

struct Layer::Weights {
  int index = 0;
  ModelConfig config;
  std::array<at::Tensor, kLayerTensorCount> weight;  // float32
  std::array<at::Tensor, kLayerTensorCount> bias;    // float32, undefined where there is none

  // Causal self-attention of the normed `x` [tokens, hidden].
  at::Tensor Attention(const at::Tensor& x) const;
  // down(silu(gate(x)) * up(x)) of the normed `x`, with the edits of this layer.
  at::Tensor Mlp(const at::Tensor& x, absl::Span<const DownProjEdit> edits, Tap* tap) const;
  // Computes the output channels of edited rows anew, from a copy of those rows.
  void ApplyEdits(const at::Tensor& input, absl::Span<const DownProjEdit> edits,
                  at::Tensor& output) const;
};

}  // namespace linchpin
