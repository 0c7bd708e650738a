// Rounds blocks of 32 weights to GGUF's types as ggml and gguf-py do, compiled
// once per instruction set and chosen at run time (Google Highway).
//
// Every instruction set gives the same bytes and the same sums: they are those
// of gguf-py, operation by operation, in float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace linchpin {

enum class BlockRounding { kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1 };

// What was lost: |w - what a reader gets|.
struct BlockError {
  double max_abs = 0;
  double sum_squares = 0;

  void Add(const BlockError& next) {
    max_abs = max_abs < next.max_abs ? next.max_abs : max_abs;
    sum_squares += next.sum_squares;
  }
};

// Encodes `blocks` x 32 finite elements of `dtype` (F32, F16, BF16; aligned to
// it) into as many blocks at `out`.  A scale or an offset that is too large for
// F16 becomes 65504, one that is too small 0.
BlockError RoundBlocks(BlockRounding rounding, DType dtype, const std::byte* elements,
                       int64_t blocks, std::byte* out);

}  // namespace linchpin
