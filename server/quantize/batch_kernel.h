// Sixteen groups of weights at once, one per lane; compiled once per instruction set
// (Google Highway).
//
// As no sum crosses lanes, every instruction set gives the same bytes.  How scales and
// offsets are searched for stands in group_fit-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quantize/side_by_side.h"

namespace linchpin {

inline constexpr int kBatch = kSideBySide;  // groups
inline constexpr int64_t kMaxLength = 32;   // of each

// Of values, weights and codes, for speed: no vector then lies in two lines of the cache.
inline constexpr size_t kBatchAlignment = 64;

// Element i of group g stands at [kBatch i + g], as StandSideBySide turns groups; finite, weights
// not negative.
struct Batch {
  const float* values = nullptr;
  const float* weights = nullptr;
  int64_t length = 0;  // at most kMaxLength
};

// value = scale x code + offset.
struct BatchGrid {
  float scale[kBatch] = {};
  float offset[kBatch] = {};
};

// Codes [0, high].  With `offset_below_zero` no offset is above 0.
BatchGrid FitAffine(const Batch& batch, float high, bool offset_below_zero);

// Codes [low, -low - 1], no offset; a scale may be negative.
BatchGrid FitSymmetric(const Batch& batch, float low);

// Weighted squared error of each group, with every value on its nearest code in
// [low, high].
void WeighErrors(const Batch& batch, const BatchGrid& grid, float low, float high,
                 float errors[kBatch]);

struct BatchError {
  float max_abs[kBatch] = {};
  float sum_squares[kBatch] = {};  // not weighted
};

// These codes, in the batch's order.
BatchError RoundBatch(const Batch& batch, const BatchGrid& grid, float low, float high,
                      float* codes);

}  // namespace linchpin
