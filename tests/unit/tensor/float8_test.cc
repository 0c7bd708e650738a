#include "tensor/float8.h"

#include <array>
#include <cmath>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

// The values that the paper's table 1 gives.
TEST(Float8Test, HasTheValuesOfItsDefinition) {
  EXPECT_EQ(FromF8E4M3(0x00), 0.0F);
  EXPECT_TRUE(std::signbit(FromF8E4M3(0x80)));
  EXPECT_EQ(FromF8E4M3(0x7e), 448.0F);
  EXPECT_EQ(FromF8E4M3(0xfe), -448.0F);
  EXPECT_EQ(FromF8E4M3(0x08), 0x1p-6F);    // smallest normal
  EXPECT_EQ(FromF8E4M3(0x07), 0x1.cp-7F);  // largest subnormal
  EXPECT_EQ(FromF8E4M3(0x01), 0x1p-9F);    // smallest subnormal
  EXPECT_EQ(FromF8E4M3(0x38), 1.0F);
  EXPECT_TRUE(std::isnan(FromF8E4M3(0x7f)));
  EXPECT_TRUE(std::isnan(FromF8E4M3(0xff)));
}

TEST(Float8Test, GrowsWithItsBitsAndIsOddInItsSign) {
  for (int bits = 1; bits < 0x7f; ++bits) {
    const float value = FromF8E4M3(static_cast<uint8_t>(bits));
    EXPECT_GT(value, FromF8E4M3(static_cast<uint8_t>(bits - 1)));
    EXPECT_EQ(FromF8E4M3(static_cast<uint8_t>(bits | 0x80)), -value);
  }
}

TEST(Float8Test, RoundsToTheNearestOfItsNumbersAndTiesToEven) {
  for (int bits = 0; bits < 0x7e; ++bits) {
    const float below = FromF8E4M3(static_cast<uint8_t>(bits));
    const float above = FromF8E4M3(static_cast<uint8_t>(bits + 1));
    const float middle = (below + above) / 2;  // exact
    EXPECT_EQ(RoundToF8E4M3(below), below);
    EXPECT_EQ(RoundToF8E4M3(middle), bits % 2 == 0 ? below : above) << bits;
    EXPECT_EQ(RoundToF8E4M3(std::nextafter(middle, 0.0F)), below) << bits;
    EXPECT_EQ(RoundToF8E4M3(-std::nextafter(middle, 1000.0F)), -above) << bits;
  }
  EXPECT_EQ(RoundToF8E4M3(448), 448);
  EXPECT_EQ(RoundToF8E4M3(1e30F), 448);
  EXPECT_EQ(RoundToF8E4M3(-449), -448);
}

TEST(Float8Test, WidensInOrder) {
  const std::array<std::byte, 3> bytes = {std::byte{0x38}, std::byte{0xb8}, std::byte{0x40}};
  std::array<float, 3> values;
  WidenF8E4M3(bytes.data(), 3, values.data());
  EXPECT_EQ(values, (std::array<float, 3>{1, -1, 2}));
}

}  // namespace
}  // namespace linchpin
