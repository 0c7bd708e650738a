#include "format/gguf_value.h"

#include <bit>

#include "format/little_endian.h"

namespace linchpin {
namespace {

// What `read` makes of each value of a fixed size; nullopt where it makes nothing.
template <typename T, typename Read>
std::optional<std::vector<T>> ReadAll(const GgufArray& array, Read read) {
  const uint64_t size = SizeOf(array.type);
  if (size == 0) return std::nullopt;
  std::vector<T> values;
  values.reserve(array.count);
  for (uint64_t i = 0; i < array.count; ++i) {
    const std::optional<T> value =
        read(LoadGgufValue(array.type, array.bytes.substr(i * size, size)));
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

}  // namespace

uint64_t SizeOf(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    default:
      return 0;
  }
}

GgufValue LoadGgufValue(GgufValueType type, std::string_view bytes) {
  const uint64_t bits = LoadLittleEndian(bytes);
  switch (type) {
    case GgufValueType::kI8:
      return int64_t{static_cast<int8_t>(bits)};
    case GgufValueType::kI16:
      return int64_t{static_cast<int16_t>(bits)};
    case GgufValueType::kI32:
      return int64_t{static_cast<int32_t>(bits)};
    case GgufValueType::kI64:
      return static_cast<int64_t>(bits);
    case GgufValueType::kF32:
      return std::bit_cast<float>(static_cast<uint32_t>(bits));
    case GgufValueType::kF64:
      return std::bit_cast<double>(bits);
    case GgufValueType::kBool:
      return bits != 0;
    default:
      return bits;
  }
}

std::optional<std::vector<std::string_view>> GgufArray::Strings() const {
  if (type != GgufValueType::kString) return std::nullopt;
  std::vector<std::string_view> values;
  values.reserve(count);
  std::string_view rest = bytes;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t length = LoadLittleEndian(rest.substr(0, 8));
    values.push_back(rest.substr(8, length));
    rest.remove_prefix(8 + length);
  }
  return values;
}

std::optional<std::vector<int64_t>> GgufArray::Integers() const {
  return ReadAll<int64_t>(*this, [](const GgufValue& value) -> std::optional<int64_t> {
    if (const auto* number = std::get_if<int64_t>(&value)) return *number;
    const auto* number = std::get_if<uint64_t>(&value);
    if (number == nullptr || *number > INT64_MAX) return std::nullopt;
    return static_cast<int64_t>(*number);
  });
}

std::optional<std::vector<double>> GgufArray::Numbers() const {
  return ReadAll<double>(*this, [](const GgufValue& value) -> std::optional<double> {
    if (const auto* number = std::get_if<float>(&value)) return *number;
    if (const auto* number = std::get_if<double>(&value)) return *number;
    return std::nullopt;
  });
}

std::optional<std::vector<bool>> GgufArray::Flags() const {
  return ReadAll<bool>(*this, [](const GgufValue& value) -> std::optional<bool> {
    if (const auto* flag = std::get_if<bool>(&value)) return *flag;
    return std::nullopt;
  });
}

}  // namespace linchpin
