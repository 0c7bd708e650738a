// Encodes rows of weights in the element types of GGUF.
//
// Without importance Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 are rounded as ggml rounds
// them, byte for byte.  With it, and always for the K types, scales and offsets
// are searched for the least sum of importance x (w - what a reader gets)^2.  The
// same bytes on every CPU and thread count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "format/gguf_blocks.h"
#include "quantize/group_encoder.h"
#include "tensor/dtype.h"

namespace linchpin {

struct BlockRequest {
  const GgufBlockType* type = nullptr;  // that CanEncode
  DType dtype = DType::kF32;            // of the weights: F32, F16 or BF16
  int64_t rows = 0;                     // in this slab
  int64_t columns = 0;                  // whole blocks
  // NormalizedImportance, one number per column; empty: see above.
  absl::Span<const float> importance;
  const std::byte* weights = nullptr;  // rows x columns, aligned to the dtype
  std::byte* blocks = nullptr;
};

// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K.
bool CanEncode(const GgufBlockType& type);
// Whether importance changes what a weight becomes: not the floats, nor Q8_0.
bool WeighsErrors(const GgufBlockType& type);

// How much an error counts in each column, not negative, made relative to the mean; ones
// where nothing counts.
std::vector<float> NormalizedImportance(absl::Span<const float> importance);

// Encodes one slab; nothing is written where a weight is not finite.  A weight
// or a scale beyond the range of a 16-bit type becomes its largest finite
// number.  Pure; thread-safe for distinct outputs.
EncodeError EncodeBlocks(const BlockRequest& request);

}  // namespace linchpin
