// Products of stored weight rows with float32 activations, compiled once per
// instruction set and chosen at run time (Google Highway).
//
// Weights are widened in registers: a product is exact before it is added, and no
// float32 copy of them is ever made.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace linchpin {

// Rows of a matrix as they are stored; does not own its memory.
struct StoredRows {
  DType dtype = DType::kF32;  // F32, F16 or BF16
  const std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
};

// So many weights, in whole tiles of rows, stay in a core's own cache beside the
// activations; more rows at once are no faster.
int64_t RowsTogether(int64_t columns);

// out[t * stride + r] = sum over k of weights[r, k] x[t, k], for x [tokens, columns].
// A sum depends on its row and token alone, not on those beside it: it is taken in 16
// lanes, lane i of the columns k = i mod 16 in order, which are added by halves (i and
// i + 8, + 4, + 2, + 1), and then the columns beyond the last 16.  Each product is fused
// with its sum where processors can (AVX2, AVX-512, NEON), all of which so give the same
// bits; elsewhere it is rounded first.  Off the true sum by at most (Higham, Accuracy and
// Stability, 2002, 3.1) columns 2^-24 / (1 - columns 2^-24) times the sum of |weight x|.
void MultiplyRows(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                  int64_t stride);

}  // namespace linchpin
