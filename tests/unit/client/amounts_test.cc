#include "client/amounts.h"

#include <gtest/gtest.h>

#include <limits>

namespace linchpin {
namespace {

TEST(SizeIn, ReadsNumbersWithUnits) {
  EXPECT_EQ(SizeIn("0"), 0U);
  EXPECT_EQ(SizeIn("1048576"), 1048576U);
  EXPECT_EQ(SizeIn("600MB"), 600'000'000U);
  EXPECT_EQ(SizeIn("2GiB"), uint64_t{2} << 30);
  EXPECT_EQ(SizeIn("1.5 GB"), 1'500'000'000U);
  for (const char* text : {"", "MB", "-1", "1mb", "1 MBs", "1e300GB", "nan", "inf"}) {
    EXPECT_EQ(SizeIn(text), std::nullopt) << text;
  }
}

TEST(SizeText, KeepsThreeDigits) {
  EXPECT_EQ(SizeText(0), "0 B");
  EXPECT_EQ(SizeText(999), "999 B");
  EXPECT_EQ(SizeText(1000), "1.00 kB");
  EXPECT_EQ(SizeText(1234), "1.23 kB");
  EXPECT_EQ(SizeText(45'600'000), "45.6 MB");
  EXPECT_EQ(SizeText(2.2e9), "2.20 GB");
  EXPECT_EQ(SizeText(810e9), "810 GB");
  EXPECT_EQ(SizeText(3e18), "3000 PB");
}

TEST(SizeText, RoundsUpIntoTheNextUnit) {
  EXPECT_EQ(SizeText(999'499), "999 kB");
  EXPECT_EQ(SizeText(999'600), "1.00 MB");
  EXPECT_EQ(SizeText(9'999'000), "10.0 MB");
  EXPECT_EQ(SizeText(99'999'000), "100 MB");
}

TEST(DurationText, ReadsLikeAClock) {
  EXPECT_EQ(DurationText(0), "0:00");
  EXPECT_EQ(DurationText(7.4), "0:07");
  EXPECT_EQ(DurationText(59.6), "1:00");
  EXPECT_EQ(DurationText(754), "12:34");
  EXPECT_EQ(DurationText(3723), "1:02:03");
}

TEST(DurationText, RefusesToGuess) {
  EXPECT_EQ(DurationText(-1), "-:--");
  EXPECT_EQ(DurationText(1e9), "-:--");
  EXPECT_EQ(DurationText(std::numeric_limits<double>::quiet_NaN()), "-:--");
  EXPECT_EQ(DurationText(std::numeric_limits<double>::infinity()), "-:--");
}

TEST(RatioText, SuitsSmallAndHuge) {
  EXPECT_EQ(RatioText(0.9996), "x1.00");
  EXPECT_EQ(RatioText(5.58), "x5.58");
  EXPECT_EQ(RatioText(37.44), "x37.4");
  EXPECT_EQ(RatioText(374.2), "x374");
  EXPECT_EQ(RatioText(61662.3), "x61,662");
  EXPECT_EQ(RatioText(9.07e7), "x9.07e+07");
  EXPECT_EQ(RatioText(std::numeric_limits<double>::infinity()), "xinf");
}

TEST(CountText, SeparatesThousands) {
  EXPECT_EQ(CountText(0), "0");
  EXPECT_EQ(CountText(999), "999");
  EXPECT_EQ(CountText(1000), "1,000");
  EXPECT_EQ(CountText(1234567), "1,234,567");
  EXPECT_EQ(CountText(-123456), "-123,456");
  EXPECT_EQ(CountText(-123), "-123");
}

}  // namespace
}  // namespace linchpin
