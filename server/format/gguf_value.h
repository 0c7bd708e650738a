// The values that stand in a GGUF header.
//
// Pure functions.  Texts and arrays are views of the bytes that were parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

namespace linchpin {

enum class GgufValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// An array as it lies in the header, checked to be whole: a vocabulary of
// 150,000 words costs nothing until it is asked for.
struct GgufArray {
  GgufValueType type = GgufValueType::kU8;  // of its values
  uint64_t count = 0;
  std::string_view bytes;

  // All values; nullopt where they are of another type.  Any integer type reads
  // as int64 (nullopt where one does not fit), float32 and float64 as double.
  std::optional<std::vector<std::string_view>> Strings() const;
  std::optional<std::vector<int64_t>> Integers() const;
  std::optional<std::vector<double>> Numbers() const;
  std::optional<std::vector<bool>> Flags() const;
};

// Integers by their signedness.
using GgufValue = std::variant<uint64_t, int64_t, float, double, bool, std::string_view, GgufArray>;

// Bytes of a value; 0 for a string and an array, whose sizes differ.
uint64_t SizeOf(GgufValueType type);

// A value of a type that has a size, from as many bytes.
GgufValue LoadGgufValue(GgufValueType type, std::string_view bytes);

}  // namespace linchpin
