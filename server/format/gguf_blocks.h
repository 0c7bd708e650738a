// The element types of GGUF: how many elements a block holds, in how many
// bytes, and what they are as float32.
//
// A row is a run of blocks.  The quantized types keep 32 or 256 elements with
// the scales (and offsets) they share; the plain types are blocks of one.  Pure
// functions; layouts as in ggml (https://github.com/ggml-org/ggml), values to
// the last bit those of gguf-py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "tensor/dtype.h"

namespace linchpin {

struct GgufBlockType {
  // Widens `blocks` blocks at `source`, which need not be aligned, to
  // blocks x elements float32 at `out`.
  using Decode = void (*)(const std::byte* source, int64_t blocks, float* out);

  uint32_t id;                                // as in the file
  std::string_view name;                      // as ggml writes it: "Q4_K"
  int64_t elements;                           // of a block
  int64_t bytes;                              // of a block
  std::optional<DType> dtype = std::nullopt;  // of a plain type
  Decode decode = nullptr;                    // of a quantized type that can be read

  bool readable() const { return dtype.has_value() || decode != nullptr; }
};

// The type of that id, readable or not; null for an id that nobody gave a name.
const GgufBlockType* FindGgufBlockType(uint32_t id);

}  // namespace linchpin
