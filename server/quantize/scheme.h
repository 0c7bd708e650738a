// What a weight can become: one row per scheme, with all that differs.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace linchpin {

enum class Format { kCompressedTensors };

// The name says bits of weights (w) and activations (a).
enum class Scheme { kW4A16, kW8A16, kW8A8, kFp8 };

// How the codes of a weight are stored.
enum class CodeKind {
  kPackedInt,  // unsigned, several to a little-endian I32 word
  kInt8,       // signed, one to a byte
  kFloat8,     // F8_E4M3
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
};

// All of them; of one.
absl::Span<const SchemeTraits> Schemes();
const SchemeTraits& TraitsOf(Scheme scheme);

// OPTION_INVALID with the list for an unknown name.
std::string_view NameOf(Scheme scheme);
std::string_view NameOf(Format format);
absl::StatusOr<Scheme> ParseScheme(std::string_view name);
absl::StatusOr<Format> ParseFormat(std::string_view name);
std::vector<std::string_view> SchemeNames();
std::vector<std::string_view> FormatNames();

}  // namespace linchpin
