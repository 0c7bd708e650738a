// Lanes side by side in one tensor of activations.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/types/span.h"
#include "forward/forward_pass.h"
#include "forward/model_tensors.h"

namespace linchpin {

// A lane's tokens within the concatenation of several.
struct TokenRange {
  int64_t begin = 0;
  int64_t count = 0;
};

// Which input of a layer.
struct InputPlace {
  int layer = 0;
  LinearInput kind = LinearInput::kAttention;
};

// Shows each lane's part of `x`, [channels, tokens], the input of those of
// `linears` that there are, to its tap, and returns what they are to be given: `x`,
// or what `lens` makes of it if it is not null.
at::Tensor SeenInput(const InputPlace& place, std::initializer_list<const LinearTensors*> linears,
                     const at::Tensor& x, absl::Span<const Lane> lanes,
                     const std::vector<TokenRange>& ranges, const LinearLens* lens);

}  // namespace linchpin
