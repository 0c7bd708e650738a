#include "checkpoint/weight_scales.h"

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
  if (scales[0] == weight[0] && columns == 1) return ScaleGrid{1, weight[1]};
  if (scales[0] == Blocks(weight[0]) && columns == Blocks(weight[1])) {
    return ScaleGrid{kBlock, kBlock};
  }
  return std::nullopt;
}

void ApplyScales(const ScaleGrid& grid, int64_t first, int64_t columns, const Matrix& scales,
                 absl::Span<float> rows) {
  const int64_t above = first / grid.rows;
  for (int64_t at = 0; at < static_cast<int64_t>(rows.size()); ++at) {
    const int64_t row = (first + at / columns) / grid.rows - above;
    rows[static_cast<size_t>(at)] *= scales.View().At(row, at % columns / grid.columns);
  }
}

}  // namespace linchpin
