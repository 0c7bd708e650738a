#include "quantize/pruning.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace linchpin {
namespace {

constexpr int kHalfBits = 16;
constexpr size_t kHighs = size_t{1} << 15;  // the sign is no part of a magnitude
constexpr size_t kLows = size_t{1} << kHalfBits;

// Magnitudes of finite numbers are ordered as these are.
uint32_t MagnitudeBits(float w) { return std::bit_cast<uint32_t>(w) & 0x7fffffffU; }

// Which elements are spared: few, so that a list in row-major order will do.
std::vector<int64_t> IndicesOf(absl::Span<const PinnedElement> elements, int64_t columns) {
  std::vector<int64_t> indices;
  for (const PinnedElement& each : elements) indices.push_back(each.row * columns + each.column);
  std::sort(indices.begin(), indices.end());
  return indices;
}

// Calls `visit` with the index of each element that is not spared.
template <typename Visit>
void ForEachOther(int64_t count, const std::vector<int64_t>& spared, Visit visit) {
  auto next = spared.begin();
  for (int64_t i = 0; i < count; ++i) {
    if (next != spared.end() && *next == i) {
      while (next != spared.end() && *next == i) ++next;
    } else {
      visit(i);
    }
  }
}

void MakeZero(float& w, EncodeError& error) {
  const double lost = std::fabs(static_cast<double>(w));
  error.max_abs = std::max(error.max_abs, lost);
  error.sum_squares += lost * lost;
  w = 0;
}

int64_t FirstNonFiniteOf(absl::Span<const float> weights) {
  return FirstNonFinite(DType::kF32, reinterpret_cast<const std::byte*>(weights.data()),
                        static_cast<int64_t>(weights.size()));
}

// The bin in which the `left` least end; `left` becomes how many of them are in it.
uint32_t BinOf(const std::vector<int64_t>& counts, int64_t& left) {
  uint32_t bin = 0;
  while (bin + 1 < counts.size() && counts[bin] < left) left -= counts[bin++];
  return bin;
}

}  // namespace

MagnitudePruning::MagnitudePruning(double sparsity, int64_t rows, int64_t columns)
    : sparsity_(sparsity),
      columns_(columns),
      high_(kHighs),
      low_(kLows),
      ties_(static_cast<size_t>(rows)) {}

// What a pass has counted tells where the threshold lies.
void MagnitudePruning::Narrow(int pass) {
  if (pass == 1) {
    const auto elements = static_cast<double>(ties_.size()) * static_cast<double>(columns_);
    const int64_t counted = std::accumulate(high_.begin(), high_.end(), int64_t{0});
    left_ = std::min(static_cast<int64_t>(std::nearbyint(sparsity_ * elements)), counted);
    threshold_ = BinOf(high_, left_) << kHalfBits;
  } else {
    threshold_ |= BinOf(low_, left_);
  }
  pass_ = pass;
}

void MagnitudePruning::Measure(int pass, int64_t first_row, absl::Span<const float> weights,
                               absl::Span<const PinnedElement> spared) {
  if (pass != pass_) Narrow(pass);
  const auto count = static_cast<int64_t>(weights.size());
  ForEachOther(count, IndicesOf(spared, columns_), [&](int64_t i) {
    const uint32_t bits = MagnitudeBits(weights[static_cast<size_t>(i)]);
    if (pass == 0) {
      ++high_[bits >> kHalfBits];
    } else if (pass == 1) {
      if (bits >> kHalfBits == threshold_ >> kHalfBits) ++low_[bits % kLows];
    } else if (bits == threshold_) {
      ++ties_[static_cast<size_t>(first_row + i / columns_)];
    }
  });
}

EncodeError MagnitudePruning::Prune(int64_t first_row, absl::Span<float> weights,
                                    absl::Span<const PinnedElement> spared) const {
  EncodeError error;
  error.first_non_finite = FirstNonFiniteOf(weights);
  if (error.first_non_finite >= 0) return error;
  int64_t ties = left_ - std::accumulate(ties_.begin(), ties_.begin() + first_row, int64_t{0});
  const auto count = static_cast<int64_t>(weights.size());
  ForEachOther(count, IndicesOf(spared, columns_), [&](int64_t i) {
    float& w = weights[static_cast<size_t>(i)];
    const uint32_t bits = MagnitudeBits(w);
    if (bits < threshold_ || (bits == threshold_ && ties-- > 0)) MakeZero(w, error);
  });
  return error;
}

EncodeError PruneTwoOfFour(int64_t columns, absl::Span<float> weights,
                           absl::Span<const PinnedElement> spared) {
  constexpr size_t kFour = 4;
  EncodeError error;
  error.first_non_finite = FirstNonFiniteOf(weights);
  if (error.first_non_finite >= 0) return error;
  const std::vector<int64_t> kept = IndicesOf(spared, columns);
  auto next = kept.begin();
  for (size_t first = 0; first < weights.size(); first += kFour) {
    std::array<uint32_t, kFour> sizes;
    for (size_t i = 0; i < kFour; ++i) sizes[i] = MagnitudeBits(weights[first + i]);
    for (; next != kept.end() && *next < static_cast<int64_t>(first + kFour); ++next) {
      sizes[static_cast<size_t>(*next) - first] = std::numeric_limits<uint32_t>::max();
    }
    for (size_t i = 0; i < kFour; ++i) {
      size_t larger = 0;
      for (size_t j = 0; j < kFour; ++j) {
        larger += sizes[j] > sizes[i] || (sizes[j] == sizes[i] && j < i) ? 1 : 0;
      }
      if (larger >= 2) MakeZero(weights[first + i], error);
    }
  }
  return error;
}

}  // namespace linchpin
