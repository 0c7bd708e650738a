// The 8-bit floating-point format of weights, to float32.
//
// E4M3 as Micikevicius et al. define it (arXiv 2209.05433): four bits of
// exponent with bias 7, three of mantissa, no infinities, NaN where all are set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linchpin {

float FromF8E4M3(uint8_t bits);
// The nearest number that it has, ties to the even code; beyond 448, its largest, that.
float RoundToF8E4M3(float value);

// Widens `count` elements at `source`.
void WidenF8E4M3(const std::byte* source, int64_t count, float* out);

}  // namespace linchpin
