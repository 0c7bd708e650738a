// The scales of weights that are stored as codes: one for the whole tensor, for
// each output channel or group of one, or for each block of 128 x 128 elements.
//
// They are a tensor of their own beside the weight: "weight_scale" where
// compressed-tensors wrote it, "weight_scale_inv" where DeepSeek's and Qwen's
// FP8 checkpoints did; either multiplies.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "tensor/matrix.h"

namespace linchpin {

// What a weight's name is followed by in its scales' name.
inline constexpr std::string_view kScaleSuffixes[] = {"_scale_inv", "_scale"};

// How many rows and columns of the weight share one scale.
struct ScaleGrid {
  int64_t rows = 1;
  int64_t columns = 1;
};

// nullopt where `scales` is not the shape of scales for `weight`, a matrix.
std::optional<ScaleGrid> GridOf(const std::vector<int64_t>& weight,
                                const std::vector<int64_t>& scales);

// Multiplies `rows`, whole rows of `columns` elements from row `first` of the
// weight on, with their scales: `scales` begins with the row of scales of `first`.
void ApplyScales(const ScaleGrid& grid, int64_t first, int64_t columns, const Matrix& scales,
                 absl::Span<float> rows);

}  // namespace linchpin
