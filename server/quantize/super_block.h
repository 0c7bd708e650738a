// Encodes 256 weights as one block of GGUF's K types, whose groups share a
// scale of scales.
//
// Each group is fitted by itself (batch_kernel.h), its scale and offset are
// rounded to multiples of the block's, the neighbours of these multiples are
// tried, and the block's own two numbers solved for the least squares of what
// came out.  The layouts are ggml's; the search goes further than its.
#pragma once

#include <cstdint>

#include "format/gguf_pack.h"
#include "quantize/block_kernel.h"

namespace linchpin {

inline constexpr int kSuperBlock = 256;  // elements

// The nearest F16; what is too large becomes 65504 with its sign.
uint16_t ClampedHalf(float value);

inline constexpr int kAffineTogether = 2;  // super blocks

// `bits` of a code: 4 for Q4_K, 5 for Q5_K.  `values` and `weights` (how much an error
// counts, not negative) are of `count` super blocks, at most kAffineTogether; what was
// lost is added to `total`.
void EncodeSuperBlocks(const float* values, const float* weights, int bits, int count,
                       AffineSuperBlock* blocks, BlockError& total);

// Q6_K.
void EncodeSuperBlock(const float* values, const float* weights, SignedSuperBlock& block,
                      BlockError& total);

}  // namespace linchpin
