// Numbers as files have them: the least significant byte first, whatever the machine.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace linchpin {

// The number that `bytes`, at most 8 of them, are; 0 for none.
constexpr uint64_t LoadLittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// As many bytes as its type has.
template <std::unsigned_integral T>
std::string LittleEndian(T value) {
  std::string bytes(sizeof(T), '\0');
  for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<char>(value >> 8 * i & 0xff);
  return bytes;
}

}  // namespace linchpin
