// The inner loops of group_encoder.h, compiled once per instruction set and
// chosen at run time (Google Highway).
//
// Every instruction set gives the same bytes and the same sums: eight lanes
// everywhere, divisions and roundings that IEEE 754 fixes, no fused operation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quantize/coding.h"
#include "tensor/dtype.h"

namespace linchpin {

// The element of largest magnitude among `count` (a multiple of 8) elements of
// `dtype`, with its sign; of two equal ones the negative.  A NaN or Inf counts
// as largest.  `elements` is aligned to the dtype.
float LargestElement(DType dtype, const std::byte* elements, int64_t count);

// Least and greatest of `count` (a multiple of 8) finite elements and 0.
struct Extremes {
  float least = 0;
  float greatest = 0;
};
Extremes ExtremesOf(DType dtype, const std::byte* elements, int64_t count);

// Largest |x - q| and sum of (x - q)^2, x = w / scale + zero, q its code.
struct CodeError {
  double max_abs = 0;
  double sum_squares = 0;
};

// Writes the codes of `count` (a multiple of 8) finite elements: two per byte
// where there are 4 bits, else one.  Packed codes are stored unsigned.
CodeError EncodeRun(const Coding& coding, DType dtype, const std::byte* elements, int64_t count,
                    float scale, float zero, std::byte* codes);

}  // namespace linchpin
