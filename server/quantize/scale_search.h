// Finds the scale with which a group comes out best, for many rows at once.
//
// Best: the least sum over the group of I (w - (q - z) s)^2, I how much the
// input channel matters (its mean square), s rounded to its stored dtype before
// it is judged.  Symmetric candidates: the signed scale times 0.8 .. 1.05 and the
// min-max scale, each refined by one least-squares step s = sum(I w (q - z)) / sum(I (q - z)^2).
// Asymmetric: clips of either end, each as it is and refined.  llama.cpp searches like this with
// its importance matrix.
//
// One vector lane is one row, so that nothing is summed across lanes: the same
// scales on every instruction set.
#pragma once

#include <cstdint>

#include "quantize/coding.h"
#include "quantize/side_by_side.h"
#include "tensor/dtype.h"

namespace linchpin {

inline constexpr int64_t kSearchRows = kSideBySide;

// One group of kSearchRows rows.  Finite; rows that there are not are zeros.
struct SearchBlock {
  Coding coding;
  DType scale_dtype = DType::kBF16;
  int64_t columns = 0;
  const float* weights = nullptr;     // [columns, kSearchRows], as StandSideBySide turns them
  const float* importance = nullptr;  // [columns], not negative; null: all alike
};

// Of each row.  0 where no candidate is better than none, as for zeros.
struct BlockScales {
  float scale[kSearchRows] = {};
  float zero[kSearchRows] = {};  // a whole number; 0 if symmetric
};

BlockScales SearchScales(const SearchBlock& block);

}  // namespace linchpin
