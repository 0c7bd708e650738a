#include "checkpoint/weight_scales.h"

#include <algorithm>

#include "tensor/tensor_info.h"

namespace linchpin {
namespace {

constexpr int64_t kBlock = 128;

int64_t Blocks(int64_t elements) { return (elements + kBlock - 1) / kBlock; }

}  // namespace

std::optional<ScaleGrid> GridOf(const std::vector<int64_t>& weight,
                                const std::vector<int64_t>& scales) {
  if (weight.size() != 2 || scales.size() > 2) return std::nullopt;
  if (ElementCount(scales) == 1) return ScaleGrid{weight[0], weight[1]};
  const int64_t columns = scales.size() == 2 ? scales[1] : 1;
  if (scales[0] == weight[0] && columns > 0 && weight[1] % columns == 0) {
    return ScaleGrid{1, weight[1] / columns};
  }
  if (scales[0] == Blocks(weight[0]) && columns == Blocks(weight[1])) {
    return ScaleGrid{kBlock, kBlock};
  }
  return std::nullopt;
}

void ApplyScales(const ScaleGrid& grid, int64_t first, int64_t columns, const Matrix& scales,
                 absl::Span<float> rows) {
  const int64_t above = first / grid.rows;
  for (int64_t begin = 0; begin < static_cast<int64_t>(rows.size()); begin += columns) {
    const int64_t row = (first + begin / columns) / grid.rows - above;
    for (int64_t column = 0; column < columns; column += grid.columns) {
      const float scale = scales.View().At(row, column / grid.columns);
      const int64_t count = std::min(grid.columns, columns - column);
      float* const values = &rows[static_cast<size_t>(begin + column)];
      for (int64_t i = 0; i < count; ++i) values[i] *= scale;
    }
  }
}

}  // namespace linchpin
