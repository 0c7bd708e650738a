// Rounds rows of weights to 4-bit codes with one scale per group, and packs them.
//
// Round-to-nearest as compressed-tensors defines it: code q = round_half_even(
// clamp(w / s, -8, 7)) in float32, the scale s rounded to its stored dtype
// before codes are computed; stored as u = q + 8, element 0 of a row in the
// lowest bits of word 0.  The same bytes on every CPU and thread count: no
// contraction to fused multiply-add, reductions in fixed order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "quantize/options.h"
#include "tensor/dtype.h"

namespace linchpin {

// A super weight within a slab of rows: `row` counts from the slab's first.
struct PinnedElement {
  int64_t row = 0;
  int64_t column = 0;
};

struct EncodeRequest {
  DType dtype = DType::kBF16;  // of weights and scales
  int64_t rows = 0;            // in this slab
  int64_t columns = 0;         // multiple of 8
  int64_t group_size = 0;      // divides columns
  ScaleRule rule = ScaleRule::kSigned;
  absl::Span<const PinnedElement> pinned;  // their groups get a power-of-two scale of the weight
  const std::byte* weights = nullptr;      // rows x columns elements of dtype
  std::byte* packed = nullptr;             // rows x columns / 8 little-endian I32 words
  std::byte* scales = nullptr;             // rows x columns / group_size elements of dtype
};

// What was lost: |w - q s| over the slab.
struct EncodeError {
  double max_abs = 0;
  double sum_squares = 0;
  int64_t first_non_finite = -1;  // index within the slab of the first NaN or Inf, else -1

  void Add(const EncodeError& next, int64_t next_first_element);
};

// Encodes one slab.  Outputs are fully written unless a non-finite weight was
// found.  Pure; thread-safe for distinct outputs.
EncodeError EncodeGroups(const EncodeRequest& request);

// The scale that puts `value` exactly on a code while the largest magnitude
// `largest` of its group still fits: value / -8, else value / 4, ... ; 0 if
// none is exact in `dtype`.
float PinnedScale(DType dtype, float value, float largest);

}  // namespace linchpin
