#include "tensor/float16.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

// A second opinion, in double and by the definition of the formats: sign,
// `exponent_bits`, `mantissa_bits`.
double Value(uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa == 0 ? sign * INFINITY : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

struct Format {
  const char* name;
  int exponent_bits;
  int mantissa_bits;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
  double Value(uint16_t bits) const { return linchpin::Value(bits, exponent_bits, mantissa_bits); }
  uint16_t Infinity() const {
    return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  }
};

class Float16 : public ::testing::TestWithParam<Format> {};

TEST_P(Float16, WidensAll65536PatternsExactly) {
  const Format& format = GetParam();
  for (int bits = 0; bits < 65536; ++bits) {
    const double expected = format.Value(static_cast<uint16_t>(bits));
    const float actual = format.widen(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(actual)) << bits;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(actual),
                std::bit_cast<uint32_t>(static_cast<float>(expected)))
          << bits;
    }
  }
}

TEST_P(Float16, NarrowsEveryPatternToItself) {
  const Format& format = GetParam();
  for (int bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<uint16_t>(bits);
    const float value = format.widen(pattern);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(format.widen(format.narrow(value)))) << bits;
      EXPECT_EQ(format.narrow(value) >> 15, bits >> 15) << bits;
    } else {
      EXPECT_EQ(format.narrow(value), pattern);
    }
  }
}

// Between every two neighbours: the middle goes to the even one, what is just
// off the middle to the nearer one.
TEST_P(Float16, RoundsToNearestTiesToEven) {
  const Format& format = GetParam();
  for (uint16_t low = 0; low < format.Infinity(); ++low) {
    const auto high = static_cast<uint16_t>(low + 1);
    // Above the largest finite value, infinity stands where the next value would.
    const double next = high == format.Infinity()
                            ? 2 * format.Value(low) - format.Value(static_cast<uint16_t>(low - 1))
                            : format.Value(high);
    const auto middle = static_cast<float>((format.Value(low) + next) / 2);
    const uint16_t even = low % 2 == 0 ? low : high;
    for (const uint16_t sign : {uint16_t{0}, uint16_t{0x8000}}) {
      const float s = sign != 0 ? -1.0f : 1.0f;
      ASSERT_EQ(format.narrow(s * middle), sign | even) << low;
      ASSERT_EQ(format.narrow(s * std::nextafterf(middle, 0)), sign | low) << low;
      ASSERT_EQ(format.narrow(s * std::nextafterf(middle, INFINITY)), sign | high) << low;
    }
  }
}

TEST_P(Float16, KeepsTheSpecialValues) {
  const Format& format = GetParam();
  EXPECT_EQ(format.narrow(INFINITY), format.Infinity());
  EXPECT_EQ(format.narrow(-INFINITY), format.Infinity() | 0x8000);
  EXPECT_EQ(format.narrow(0.0f), 0);
  EXPECT_EQ(format.narrow(-0.0f), 0x8000);
  EXPECT_EQ(format.narrow(std::numeric_limits<float>::max()), format.Infinity());
  // A NaN whose payload lies in the bits that are cut off must not become infinity.
  EXPECT_TRUE(std::isnan(format.widen(format.narrow(std::bit_cast<float>(0x7f800001u)))));
}

TEST_P(Float16, NeverRoundsToTheFartherNeighbour) {
  const Format& format = GetParam();
  std::mt19937 random(1);
  for (int i = 0; i < 200'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(value)) continue;
    const uint16_t bits = format.narrow(value);
    if ((bits & 0x7fff) == format.Infinity() || (bits & 0x7fff) == 0) continue;
    const double error = std::abs(static_cast<double>(value) - format.Value(bits));
    for (const int step : {-1, 1}) {
      const double other = format.Value(static_cast<uint16_t>(bits + step));
      if (!std::isfinite(other)) continue;
      ASSERT_LE(error, std::abs(value - other)) << value;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Both, Float16,
                         ::testing::Values(Format{"bf16", 8, 7, FromBF16, ToBF16},
                                           Format{"f16", 5, 10, FromF16, ToF16}),
                         [](const auto& info) { return info.param.name; });

TEST(WidenToFloat, ReadsUnalignedElementsOfEveryType) {
  const std::array<float, 3> values = {1.5f, -2.0f, 0.0f};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::array<std::byte, 13> bytes;
    for (size_t i = 0; i < values.size(); ++i) {
      StoreAs(dtype, values[i], bytes.data() + 1 + i * static_cast<size_t>(SizeOf(dtype)));
    }
    std::array<float, 3> out = {9, 9, 9};
    WidenToFloat(dtype, bytes.data() + 1, 3, out.data());
    EXPECT_EQ(out, values) << NameOf(dtype);
  }
}

TEST(RoundTo, IsStoreAndWiden) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const float value : {0.1f, 3.14159f, -1e-7f, 65519.0f}) {
      std::array<std::byte, 4> bytes = {};
      StoreAs(dtype, value, bytes.data());
      float widened = 0;
      WidenToFloat(dtype, bytes.data(), 1, &widened);
      EXPECT_EQ(RoundTo(dtype, value), widened) << NameOf(dtype);
    }
  }
  EXPECT_EQ(RoundTo(DType::kF32, 0.1f), 0.1f);
  EXPECT_EQ(RoundTo(DType::kBF16, 1.00390625f), 1.0f) << "a tie, to even";
}

}  // namespace
}  // namespace linchpin
