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
  // down(silu(gate(x)) * up(x)) of the normed `x`.
  at::Tensor Mlp(const at::Tensor& x, Tap* tap) const;
};

}  // namespace linchpin
