// Rounds weights to a plain type of 16 bits, compiled once per instruction set and chosen at run
// time (Google Highway).  The same bytes and the same error on all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quantize/block_kernel.h"
#include "tensor/dtype.h"

namespace linchpin {

// Rounds `count` finite elements of `from` (F32, F16, BF16; aligned to it) to the nearest of
// `to` (likewise), ties to even, at `out`, which need not be aligned.  What is too large
// becomes the largest finite number with its sign.
BlockError NarrowElements(DType from, DType to, const std::byte* elements, int64_t count,
                          std::byte* out);

}  // namespace linchpin
