// Rounds rows of weights to codes with one scale per group.
//
// Round-to-nearest as compressed-tensors defines it: code q = round_half_even(
// clamp(w / s + z)) in float32, the scale s rounded to its stored dtype before
// codes are computed.  The same bytes on every CPU and thread count: no
// contraction to fused multiply-add, reductions in fixed order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "quantize/coding.h"
#include "quantize/options.h"
#include "tensor/dtype.h"

namespace linchpin {

// A super weight within a slab of rows: `row` counts from the slab's first.
struct PinnedElement {
  int64_t row = 0;
  int64_t column = 0;
};

struct EncodeRequest {
  DType dtype = DType::kBF16;        // of the weights: F32, F16 or BF16
  DType scale_dtype = DType::kBF16;  // likewise
  Coding coding;
  int64_t rows = 0;        // in this slab
  int64_t columns = 0;     // multiple of 8
  int64_t group_size = 0;  // multiple of 8, divides columns
  ScaleRule rule = ScaleRule::kSigned;
  absl::Span<const float> importance;  // per column, for kImportance
  // Their groups get PinnedScale, or the rule's scale where there is none.
  absl::Span<const PinnedElement> pinned;
  const std::byte* weights = nullptr;  // rows x columns elements of dtype, aligned to it
  std::byte* codes = nullptr;          // rows x coding.RowBytes(columns); see EncodeRun
  std::byte* scales = nullptr;         // rows x columns / group_size elements of scale_dtype
  int8_t* zeros = nullptr;             // as many zero points; null unless asymmetric
};

// What was lost: |w - (q - z) s| over the slab.  Summed in double over fixed runs
// of elements, so that it does not depend on the CPU either.
struct EncodeError {
  double max_abs = 0;
  double sum_squares = 0;
  int64_t first_non_finite = -1;  // index within the slab of the first NaN or Inf, else -1

  // Takes in the slab that follows; `next_first_element` is the index of its
  // first element counted from the start of this one.
  void Add(const EncodeError& next, int64_t next_first_element);
};

// Encodes one slab.  Outputs are fully written unless a non-finite weight was
// found.  Pure; thread-safe for distinct outputs.
EncodeError EncodeGroups(const EncodeRequest& request);

// The scale of a group whose element of largest magnitude is `largest` by
// kSigned or kMinMax, rounded to `dtype`; never zero: where it would be (an empty
// group, underflow) it is the dtype's epsilon, as in compressed-tensors.
float GroupScale(const Coding& coding, ScaleRule rule, DType dtype, float largest);

// The scale that puts `value` exactly on a code while `largest`, the element of
// largest magnitude of its group with its sign, still fits: value / -8 of 4 bits,
// else the least of |value| / 4, / 2, / 1 with the sign that gives `largest` a
// negative code.  Only scales that are exact in `dtype`; 0 if none does it all.
float PinnedScale(int bits, DType dtype, float value, float largest);

// Index of the first NaN or Inf among `count` elements of F32, F16 or BF16, else -1.
int64_t FirstNonFinite(DType dtype, const std::byte* elements, int64_t count);

}  // namespace linchpin
