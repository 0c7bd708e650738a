// Against sorting everything.
#include "detect/median.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

float Median(const std::vector<float>& values) {
  return MedianAbs({values.data(), 1, static_cast<int64_t>(values.size())});
}

float BySorting(std::vector<float> values) {
  for (float& value : values) value = std::fabs(value);
  std::sort(values.begin(), values.end());
  return values[(values.size() - 1) / 2];
}

TEST(MedianAbsTest, IsTheLowerMiddleOfMagnitudes) {
  EXPECT_EQ(Median({-3}), 3);
  EXPECT_EQ(Median({-3, 1}), 1);
  EXPECT_EQ(Median({5, -4, 3, 2}), 3);
  EXPECT_EQ(Median({0, -0.0F, 0, 1}), 0);
}

TEST(MedianAbsTest, IsThatOfTheSortedValues) {
  std::mt19937 random(7);
  for (const size_t count : {1, 2, 3, 17, 1000, 4096, 40001}) {
    for (const float spread : {0.1F, 3.0F, 40.0F}) {
      std::normal_distribution<float> exponent(0, spread);
      std::vector<float> values(count);
      for (float& value : values)
        value = std::exp2(exponent(random)) * (random() % 2 == 0 ? 1 : -1);
      EXPECT_EQ(Median(values), BySorting(values)) << count << ", " << spread;
    }
  }
}

TEST(MedianAbsTest, ExtremesHaveTheirPlaces) {
  const float infinite = std::numeric_limits<float>::infinity();
  const float least = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(Median({infinite, -least, 2, -infinite, 0}), 2);
  EXPECT_EQ(Median({infinite, -infinite, least}), infinite);
  EXPECT_EQ(Median({least, -least, 0}), least);
  EXPECT_EQ(Median(std::vector<float>(5000, -1.5F)), 1.5F);
}

}  // namespace
}  // namespace linchpin
