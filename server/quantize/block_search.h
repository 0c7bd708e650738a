// Encodes rows in GGUF's Q4_0, Q4_1, Q5_0 and Q5_1 with the scales and offsets that lose
// the least, sixteen blocks at once; compiled once per instruction set (Google Highway).
//
// Every instruction set gives the same bytes and the same sums (group_fit-inl.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "quantize/block_kernel.h"
#include "tensor/dtype.h"

namespace linchpin {

// How much an error counts in each column of a row (whole blocks), not negative, in the order
// in which the search takes the blocks of 32: batch after batch, the last one padded with
// zeros.
hwy::AlignedFreeUniquePtr<float[]> TurnImportance(std::vector<float> row);

// Encodes a row of `count` (whole blocks) finite elements of `dtype` (F32, F16, BF16; aligned
// to it) into blocks at `out`; not for kQ8_0.  `importance` is TurnImportance's.
BlockError SearchBlocks(BlockRounding type, DType dtype, const std::byte* elements, int64_t count,
                        const float* importance, uint8_t* out);

}  // namespace linchpin
