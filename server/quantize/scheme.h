// What a weight can become: one row per scheme, with all that differs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace linchpin {

enum class Format {
  kCompressedTensors,
  kGguf,
  kDense,  // dequantized, in a dtype that every reader takes
};

// The name says bits of weights (w) and activations (a).
// Those of GGUF are called as its element types are; kBlocks is the paper's
// (quantize/clipped_blocks.h); pruned weights are zero or as they were (quantize/pruning.h).
enum class Scheme {
  kW4A16,
  kW8A16,
  kW8A8,
  kFp8,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kF16,
  kBF16,
  kBlocks,
  kPruned,
  kPruned2Of4,
};

// How the codes of a weight are stored.
enum class CodeKind {
  kPackedInt,  // unsigned, several to a little-endian I32 word
  kInt8,       // signed, one to a byte
  kFloat8,     // F8_E4M3
  kGgufBlocks,
  kNone,  // no codes are stored: what they would be read as
};

struct SchemeTraits {
  Scheme scheme = Scheme::kW4A16;
  std::string_view name;
  absl::Span<const Format> formats;  // that can hold it
  CodeKind codes = CodeKind::kPackedInt;
  int bits = 4;                        // of a code
  bool groups = false;                 // several scales per row; else one per channel only
  bool asymmetric = false;             // zero points are possible
  bool rounds_activations = false;     // consumers round each token's activations to 8 bits
  std::string_view compressed_format;  // compressed-tensors' `format`
  uint32_t gguf_type = 0;              // id of kGgufBlocks' element type
  // What a row that is no multiple of the type's blocks becomes, as llama.cpp
  // has it; itself where there is nothing else.
  Scheme fall_back = Scheme::kW4A16;
  int64_t run = 1;  // a row's length must be a multiple of it
  // What an embedding or output head of 8 bits is beside it.
  Scheme outer = Scheme::kW8A16;
};

// All of them; of one.
absl::Span<const SchemeTraits> Schemes();
const SchemeTraits& TraitsOf(Scheme scheme);

// The scheme of `format` that is nearest to one of its name: in GGUF 4-bit weights
// are Q4_K and 8-bit ones Q8_0.  Itself where there is none.
Scheme SchemeIn(Format format, Scheme scheme);

// OPTION_INVALID with the list for an unknown name.
std::string_view NameOf(Scheme scheme);
std::string_view NameOf(Format format);
absl::StatusOr<Scheme> ParseScheme(std::string_view name);
absl::StatusOr<Format> ParseFormat(std::string_view name);
std::vector<std::string_view> SchemeNames();
std::vector<std::string_view> FormatNames();

}  // namespace linchpin
