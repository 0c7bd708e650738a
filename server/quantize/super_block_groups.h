// What both kinds of super blocks (super_block.h) do with the groups of a batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "quantize/batch_kernel.h"
#include "quantize/block_kernel.h"

namespace linchpin {

inline constexpr int kRounds = 2;  // of solving for the block's scale and trying neighbours again
inline constexpr int kGroups = 8;  // whose errors are added up together

// The multiple of `step` in [low, high] that is next to `value`.
inline int Nearest(float value, float step, int low, int high) {
  if (step == 0) return std::clamp(0, low, high);
  return static_cast<int>(
      std::nearbyint(std::clamp(value / step, static_cast<float>(low), static_cast<float>(high))));
}

// Of kGroups groups.
inline double SumOf(const float* groups) {
  double sum = 0;
  for (int g = 0; g < kGroups; ++g) sum += groups[g];
  return sum;
}

// Adds what was lost in the groups from `first` on.
inline void AddTo(BlockError& total, const BatchError& error, int first) {
  BlockError sum{0, SumOf(error.sum_squares + first)};
  for (int g = first; g < first + kGroups; ++g) {
    sum.max_abs = std::max<double>(sum.max_abs, error.max_abs[g]);
  }
  total.Add(sum);
}

// Codes of `groups` groups, from where `batch` points on, less `low`, one group behind the
// other.
inline void TakeCodes(const float* batch, int64_t groups, int64_t length, float low,
                      uint8_t* codes) {
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t i = 0; i < length; ++i, ++codes) {
      *codes = static_cast<uint8_t>(static_cast<int>(batch[i * kBatch + g] - low));
    }
  }
}

}  // namespace linchpin
