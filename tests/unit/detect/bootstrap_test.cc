#include "detect/bootstrap.h"

#include <cmath>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(BootstrapTest, NothingChangedIsOneExactly) {
  const std::vector<float> losses = {1.0F, 2.0F, 0.5F};
  const RatioEstimate estimate = EstimateRatio(losses, losses);
  EXPECT_EQ(estimate.ratio, 1);
  EXPECT_EQ(estimate.low, 1);
  EXPECT_EQ(estimate.high, 1);
}

TEST(BootstrapTest, AnEvenRiseHasNoSpread) {
  const RatioEstimate estimate = EstimateRatio({1, 2, 3, 4}, {2, 3, 4, 5});
  EXPECT_NEAR(estimate.ratio, std::exp(1.0), 1e-12);
  EXPECT_NEAR(estimate.low, std::exp(1.0), 1e-12);
  EXPECT_NEAR(estimate.high, std::exp(1.0), 1e-12);
}

TEST(BootstrapTest, TheIntervalHoldsTheRatioAndNarrowsWithTokens) {
  const auto spread = [](int tokens) {
    std::vector<float> base(tokens, 1.0F), changed(tokens);
    for (int i = 0; i < tokens; ++i) changed[i] = 1.0F + static_cast<float>(i % 5) * 0.5F;
    const RatioEstimate estimate = EstimateRatio(base, changed);
    EXPECT_LT(estimate.low, estimate.ratio);
    EXPECT_GT(estimate.high, estimate.ratio);
    return std::log(estimate.high / estimate.low);
  };
  const double few = spread(50);
  const double many = spread(5000);
  // The standard error of a mean falls as 1 / sqrt(n): ten times here.
  EXPECT_NEAR(few / many, 10, 3);
}

TEST(BootstrapTest, NoTokensIsOne) { EXPECT_EQ(EstimateRatio({}, {}).ratio, 1); }

TEST(BootstrapTest, IsDeterministic) {
  std::vector<float> base(100, 1.0F), changed(100);
  for (int i = 0; i < 100; ++i) changed[i] = static_cast<float>(i % 7);
  EXPECT_EQ(EstimateRatio(base, changed).low, EstimateRatio(base, changed).low);
}

}  // namespace
}  // namespace linchpin
