// The two 16-bit floating-point formats, to and from float32.
//
// BF16 is the upper half of a float32; F16 is IEEE 754 binary16.  Narrowing
// rounds to nearest, ties to even, as PyTorch does.  Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace linchpin {

float FromBF16(uint16_t bits);
uint16_t ToBF16(float value);
float FromF16(uint16_t bits);
uint16_t ToF16(float value);

// Widens `count` little-endian elements of a float weight type (F32, F16, BF16)
// at `source` to float32.  Source need not be aligned.
void WidenToFloat(DType dtype, const std::byte* source, int64_t count, float* out);

// The mirror image: stores `count` values, rounded to `dtype`, at `out`, which need
// not be aligned.
void NarrowFromFloat(DType dtype, const float* values, int64_t count, std::byte* out);

// Rounds `value` to `dtype` (F32, F16 or BF16) and back.
float RoundTo(DType dtype, float value);

// Stores `value`, rounded to `dtype` (F32, F16 or BF16), at `out`.
void StoreAs(DType dtype, float value, std::byte* out);

}  // namespace linchpin
