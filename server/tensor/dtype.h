// The element types that a checkpoint may store.
//
// Names are those of the safetensors format.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace linchpin {

enum class DType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64
};

// Bytes of one element.
int64_t SizeOf(DType dtype);

// "BF16", "F32", "I64", ...
std::string_view NameOf(DType dtype);

// The inverse of NameOf; nullopt for a name that is not known.
std::optional<DType> ParseDType(std::string_view name);

// True for the types that a forward pass and a quantizer take: F32, F16, BF16.
bool IsFloatWeight(DType dtype);

}  // namespace linchpin
