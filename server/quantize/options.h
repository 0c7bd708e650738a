// What a caller may choose about quantization, and its spelling.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace linchpin {

// Symmetric integer weights in groups along a row, activations untouched.
enum class Scheme { kW4A16 };

// Where a group's scale comes from.  kSigned: s = -w_max / 8, w_max the element
// of largest magnitude with its sign, which then sits on code -8 and is stored
// exactly.  kMinMax: s = max|w| / 7.5, what llm-compressor writes.
enum class ScaleRule { kSigned, kMinMax };

// How a super weight survives.  kTensor: its whole tensor stays as it is.
// kScale: its group gets a scale that puts it exactly on a code.  kNone: plain
// rounding, for comparison.
enum class Preserve { kTensor, kScale, kNone };

struct QuantizeOptions {
  Scheme scheme = Scheme::kW4A16;
  // 0: the largest of 128, 64, 32 that divides every row of every quantized
  // tensor, else per channel.  -1: per channel.
  int64_t group_size = 0;
  ScaleRule scale = ScaleRule::kSigned;
  Preserve preserve = Preserve::kTensor;
};

// "w4a16", "signed", "tensor", ...; OPTION_INVALID with the list for an unknown name.
std::string_view NameOf(Scheme scheme);
std::string_view NameOf(ScaleRule rule);
std::string_view NameOf(Preserve preserve);
absl::StatusOr<Scheme> ParseScheme(std::string_view name);
absl::StatusOr<ScaleRule> ParseScaleRule(std::string_view name);
absl::StatusOr<Preserve> ParsePreserve(std::string_view name);
// "auto", "channel", "32", "64", "128" to the values of QuantizeOptions::group_size,
// and back; "unknown" for any other number.
absl::StatusOr<int64_t> ParseGroupSize(std::string_view text);
std::string_view GroupSizeName(int64_t group_size);

}  // namespace linchpin
