// Takes the input of a fuzz target apart.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

inline std::string_view TextOf(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The parts between NUL bytes; the last one is all that is left, NUL bytes too.
template <size_t kParts>
std::array<std::string_view, kParts> PartsOf(std::string_view input) {
  std::array<std::string_view, kParts> parts;
  for (size_t i = 0; i + 1 < kParts; ++i) {
    parts[i] = input.substr(0, input.find('\0'));
    input.remove_prefix(std::min(parts[i].size() + 1, input.size()));
  }
  parts.back() = input;
  return parts;
}
