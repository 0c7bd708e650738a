#include "detect/median.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace linchpin {
namespace {

// The bits of a magnitude order as it does; the high ones are its class.
uint32_t BitsOf(float value) { return std::bit_cast<uint32_t>(std::fabs(value)); }
constexpr int kClassShift = 20;
constexpr size_t kClasses = size_t{1} << (31 - kClassShift);

}  // namespace

// Only those of one class are put in order: this runs for every layer, beside the
// products of which other threads wait.
float MedianAbs(MatrixView matrix) {
  const absl::Span<const float> all(matrix.data, static_cast<size_t>(matrix.rows * matrix.columns));
  std::vector<size_t> counts(kClasses);
  for (const float value : all) ++counts[BitsOf(value) >> kClassShift];
  size_t rank = (all.size() - 1) / 2;
  uint32_t middle = 0;
  for (; rank >= counts[middle]; ++middle) rank -= counts[middle];
  std::vector<uint32_t> bits;
  bits.reserve(counts[middle]);
  for (const float value : all) {
    if (BitsOf(value) >> kClassShift == middle) bits.push_back(BitsOf(value));
  }
  const auto found = bits.begin() + static_cast<int64_t>(rank);
  std::nth_element(bits.begin(), found, bits.end());
  return std::bit_cast<float>(*found);
}

}  // namespace linchpin
