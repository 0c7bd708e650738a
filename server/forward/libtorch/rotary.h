// Rotary position embedding on half-rotated pairs (Su et al., arXiv 2104.09864)
// and the ways to stretch it over longer contexts.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "checkpoint/rope_config.h"

namespace linchpin {

// Cosines and sines of every position, each [positions, rotated].
struct RotaryTable {
  at::Tensor cosine;
  at::Tensor sine;
};

// `head_dim` x config.partial elements are rotated.  Dynamic and longrope depend
// on the number of positions.
RotaryTable MakeRotaryTable(const RopeConfig& config, int64_t head_dim, int64_t positions);

// Rotates the first elements of each head of `x` [heads, positions, head_dim]:
// element i pairs with i + rotated / 2; the rest is kept.
at::Tensor Rotate(const at::Tensor& x, const RotaryTable& table);

}  // namespace linchpin
