#include "quantize/clipped_blocks.h"

#include <algorithm>
#include <cmath>

namespace linchpin {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t CountOf(const BlockOptions& options, int64_t rows, int64_t columns) {
  if (options.tile > 0) return CeilDiv(rows, options.tile) * CeilDiv(columns, options.tile);
  return CeilDiv(rows * columns, options.run);
}

bool Holds(absl::Span<const PinnedElement> elements, int64_t row, int64_t column) {
  return std::any_of(elements.begin(), elements.end(), [&](const PinnedElement& element) {
    return element.row == row && element.column == column;
  });
}

}  // namespace

ClippedBlocks::ClippedBlocks(const BlockOptions& options, int64_t rows, int64_t columns)
    : options_(options),
      columns_(columns),
      blocks_(static_cast<size_t>(CountOf(options, rows, columns))) {}

template <typename Visit>
void ClippedBlocks::ForEachPiece(int64_t first_row, int64_t count, Visit visit) const {
  const int64_t tile = options_.tile;
  for (int64_t at = 0; at < count;) {
    const int64_t row = first_row + at / columns_;
    const int64_t column = at % columns_;
    const int64_t element = first_row * columns_ + at;
    const int64_t block =
        tile > 0 ? row / tile * CeilDiv(columns_, tile) + column / tile : element / options_.run;
    const int64_t left = tile > 0 ? std::min(tile - column % tile, columns_ - column)
                                  : options_.run - element % options_.run;
    const int64_t length = std::min(left, count - at);
    visit(static_cast<size_t>(block), at, length);
    at += length;
  }
}

void ClippedBlocks::Measure(int64_t first_row, absl::Span<const float> weights,
                            absl::Span<const PinnedElement> held_out) {
  const auto count = static_cast<int64_t>(weights.size());
  ForEachPiece(first_row, count, [&](size_t number, int64_t first, int64_t length) {
    Block& block = blocks_[number];
    for (int64_t i = first; i < first + length; ++i) {
      if (!held_out.empty() && Holds(held_out, i / columns_, i % columns_)) continue;
      const float w = weights[static_cast<size_t>(i)];
      if (block.count++ == 0) block.low = block.high = w;
      block.low = std::min(block.low, w);
      block.high = std::max(block.high, w);
      block.sum += std::fabs(w);
      block.squares += static_cast<double>(w) * w;
    }
  });
}

ClippedBlocks::Grid ClippedBlocks::GridOf(const Block& block) const {
  Grid grid{block.low, block.high, 0};
  if (options_.z > 0 && block.count > 1) {
    const auto n = static_cast<double>(block.count);
    const double mean = block.sum / n;
    const double variance = std::max(0.0, (block.squares - n * mean * mean) / (n - 1));
    const auto bound = static_cast<float>(mean + options_.z * std::sqrt(variance));
    grid.low = std::max(grid.low, -bound);
    grid.high = std::min(grid.high, bound);
  }
  grid.step = (grid.high - grid.low) / static_cast<float>((1 << options_.bits) - 1);
  return grid;
}

EncodeError ClippedBlocks::Round(int64_t first_row, absl::Span<float> weights) const {
  EncodeError total;
  const auto count = static_cast<int64_t>(weights.size());
  total.first_non_finite =
      FirstNonFinite(DType::kF32, reinterpret_cast<const std::byte*>(weights.data()), count);
  if (total.first_non_finite >= 0) return total;
  ForEachPiece(first_row, count, [&](size_t number, int64_t first, int64_t length) {
    const Grid grid = GridOf(blocks_[number]);
    for (float& w : weights.subspan(static_cast<size_t>(first), static_cast<size_t>(length))) {
      const float clipped = std::clamp(w, grid.low, grid.high);
      // A block of one value has no step.
      const float code = grid.step > 0 ? std::nearbyint((clipped - grid.low) / grid.step) : 0.0F;
      const float rounded = code * grid.step + grid.low;
      const double error = std::fabs(static_cast<double>(w) - rounded);
      total.max_abs = std::max(total.max_abs, error);
      total.sum_squares += error * error;
      w = rounded;
    }
  });
  return total;
}

}  // namespace linchpin
