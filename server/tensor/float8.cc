#include "tensor/float8.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace linchpin {
namespace {

float Decode(uint8_t bits) {
  const int exponent = (bits >> 3) & 0xf;
  const int mantissa = bits & 0x7;
  if ((bits & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

const std::array<float, 256>& Values() {
  static const auto& values = *new std::array<float, 256>([] {
    std::array<float, 256> all;
    for (size_t i = 0; i < all.size(); ++i) all[i] = Decode(static_cast<uint8_t>(i));
    return all;
  }());
  return values;
}

}  // namespace

float FromF8E4M3(uint8_t bits) { return Values()[bits]; }

float RoundToF8E4M3(float value) {
  constexpr float kLargest = 448;
  constexpr int kSmallestExponent = -6;
  const float clamped = std::clamp(value, -kLargest, kLargest);
  int exponent = 0;
  std::frexp(clamped, &exponent);  // of a fraction from a half up
  const float step = std::ldexp(1.0F, std::max(exponent - 1, kSmallestExponent) - 3);
  return std::nearbyint(clamped / step) * step;
}

void WidenF8E4M3(const std::byte* source, int64_t count, float* out) {
  const std::array<float, 256>& values = Values();
  for (int64_t i = 0; i < count; ++i) out[i] = values[static_cast<uint8_t>(source[i])];
}

}  // namespace linchpin
