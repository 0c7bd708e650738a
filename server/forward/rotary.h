// Rotary position embedding on half-rotated pairs (Su et al., arXiv 2104.09864).
#pragma once

#include <ATen/ATen.h>

#include "checkpoint/model_config.h"

namespace linchpin {

// Cosines and sines of every position, each [positions, head_dim].
struct RotaryTable {
  at::Tensor cosine;
  at::Tensor sine;
};

// Frequencies theta^(-2i / head_dim), scaled as Llama 3 does where the config says so.
RotaryTable MakeRotaryTable(const ModelConfig& config, int64_t positions);

// Rotates `x` [heads, positions, head_dim]: element i pairs with i + head_dim / 2.
at::Tensor Rotate(const at::Tensor& x, const RotaryTable& table);

}  // namespace linchpin
