#include "quantize/pruning.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

using Spared = std::vector<PinnedElement>;

// Few different magnitudes where `coarse`, so that many are equal.
std::vector<float> Weights(size_t count, bool coarse, uint32_t seed = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05F);
  std::vector<float> values(count);
  for (float& value : values) {
    value = normal(random);
    if (coarse) value = std::round(value * 100) / 128;
  }
  return values;
}

Spared Within(const Spared& spared, int64_t first, int64_t count) {
  Spared part;
  for (const PinnedElement& each : spared) {
    if (each.row >= first && each.row < first + count) {
      part.push_back({each.row - first, each.column});
    }
  }
  return part;
}

// All passes and the pruning in slabs of so many rows.
EncodeError PruneAll(double sparsity, int64_t columns, int64_t slab, const Spared& spared,
                     std::vector<float>& values) {
  const int64_t rows = static_cast<int64_t>(values.size()) / columns;
  MagnitudePruning pruning(sparsity, rows, columns);
  const auto part = [&](int64_t first) {
    return absl::MakeSpan(values).subspan(
        static_cast<size_t>(first * columns),
        static_cast<size_t>(std::min(slab, rows - first) * columns));
  };
  for (int pass = 0; pass < MagnitudePruning::kPasses; ++pass) {
    for (int64_t first = 0; first < rows; first += slab) {
      pruning.Measure(pass, first, part(first), Within(spared, first, slab));
    }
  }
  EncodeError total;
  for (int64_t first = 0; first < rows; first += slab) {
    total.Add(pruning.Prune(first, part(first), Within(spared, first, slab)), first * columns);
  }
  return total;
}

// The definition: sort, stably.
std::vector<float> Reference(double sparsity, int64_t columns, const Spared& spared,
                             std::vector<float> values) {
  std::set<int64_t> kept;
  for (const PinnedElement& each : spared) kept.insert(each.row * columns + each.column);
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return std::fabs(values[a]) < std::fabs(values[b]); });
  auto left = static_cast<int64_t>(std::nearbyint(sparsity * static_cast<double>(values.size())));
  for (const size_t i : order) {
    if (left <= 0) break;
    if (kept.contains(static_cast<int64_t>(i))) continue;
    values[i] = 0;
    --left;
  }
  return values;
}

TEST(MagnitudePruningTest, IsASortAtEverySparsityAndSlab) {
  const Spared spared = {{0, 3}, {2, 0}, {2, 1}, {36, 13}};
  for (const bool coarse : {false, true}) {
    for (const double sparsity : {0.0, 0.001, 0.25, 0.5, 0.9, 0.999, 1.0}) {
      for (const Spared& kept : {Spared{}, spared}) {
        const std::vector<float> original = Weights(37 * 24, coarse);
        const std::vector<float> expected = Reference(sparsity, 24, kept, original);
        for (const int64_t slab : {1, 5, 37}) {
          std::vector<float> values = original;
          PruneAll(sparsity, 24, slab, kept, values);
          EXPECT_EQ(values, expected) << sparsity << " slab " << slab << " coarse " << coarse;
        }
      }
    }
  }
}

TEST(MagnitudePruningTest, OfEqualOnesThoseThatComeFirstBecomeZero) {
  std::vector<float> values = {1, -1, 2, 1, -1, 1, 1, -2};
  PruneAll(0.5, 2, 1, {}, values);
  EXPECT_THAT(values, ElementsAre(0, 0, 2, 0, 0, 1, 1, -2));
}

TEST(MagnitudePruningTest, TellsNumbersApartThatDifferInTheLastBit) {
  const float above = std::nextafter(1.0F, 2.0F);
  std::vector<float> values = {above, -1, above, 1};
  PruneAll(0.5, 2, 1, {}, values);
  EXPECT_THAT(values, ElementsAre(above, 0, above, 0));
}

TEST(MagnitudePruningTest, ASparedWeightStaysAndAnotherGoesInItsPlace) {
  std::vector<float> values = {0.1F, 0.2F, 0.3F, 0.4F};
  PruneAll(0.5, 4, 1, {{0, 0}}, values);
  EXPECT_THAT(values, ElementsAre(0.1F, 0, 0, 0.4F));
  values = {0.1F, 0.2F, 0.3F, 0.4F};
  PruneAll(1, 4, 1, {{0, 0}}, values);
  EXPECT_THAT(values, ElementsAre(0.1F, 0, 0, 0));
}

TEST(MagnitudePruningTest, TheErrorIsWhatWasTaken) {
  std::vector<float> values = {3, -4, 5, 6};
  const EncodeError error = PruneAll(0.5, 2, 1, {}, values);
  EXPECT_EQ(error.max_abs, 4);
  EXPECT_EQ(error.sum_squares, 25);
  EXPECT_EQ(error.first_non_finite, -1);
}

TEST(MagnitudePruningTest, HalvesAreCountedAsPythonRoundsThem) {
  for (const auto& [count, zeros] : {std::pair{1, 0}, {3, 2}, {5, 2}, {7, 4}}) {
    std::vector<float> values(static_cast<size_t>(count), 1.0F);
    PruneAll(0.5, count, 1, {}, values);
    EXPECT_EQ(std::count(values.begin(), values.end(), 0.0F), zeros) << count;
  }
}

TEST(MagnitudePruningTest, ANumberThatIsNoneIsNamedAndNothingDone) {
  std::vector<float> values = {1, 2, std::numeric_limits<float>::quiet_NaN(), 4};
  EXPECT_EQ(PruneAll(0.5, 2, 1, {}, values).first_non_finite, 2);
  EXPECT_EQ(values[3], 4);
  values = {1, 2, 3, -std::numeric_limits<float>::infinity()};
  EXPECT_EQ(PruneTwoOfFour(4, absl::MakeSpan(values), {}).first_non_finite, 3);
}

TEST(TwoOfFourTest, TheTwoLargestStay) {
  std::vector<float> values = {1, -4, 3, 2, 0, 0, 0, -5};
  const EncodeError error = PruneTwoOfFour(8, absl::MakeSpan(values), {});
  EXPECT_THAT(values, ElementsAre(0, -4, 3, 0, 0, 0, 0, -5));
  EXPECT_EQ(error.max_abs, 2);
  EXPECT_EQ(error.sum_squares, 5);
}

TEST(TwoOfFourTest, OfEqualOnesThoseThatComeFirstStay) {
  std::vector<float> values = {1, -1, 1, -1, 1, 2, 1, 1};
  PruneTwoOfFour(4, absl::MakeSpan(values), {});
  EXPECT_THAT(values, ElementsAre(1, -1, 0, 0, 1, 2, 0, 0));
}

TEST(TwoOfFourTest, ASparedWeightTakesOneOfTheTwoPlaces) {
  std::vector<float> values = {1, 4, 3, 2, 4, 3, 2, 1};
  PruneTwoOfFour(4, absl::MakeSpan(values), Spared{{0, 0}, {1, 3}});
  EXPECT_THAT(values, ElementsAre(1, 4, 0, 0, 4, 0, 0, 1));
}

TEST(TwoOfFourTest, AtMostTwoOfAnyFourAreLeftAndTheOthersAreAsTheyWere) {
  for (const bool coarse : {false, true}) {
    const std::vector<float> original = Weights(64 * 20, coarse);
    std::vector<float> values = original;
    PruneTwoOfFour(20, absl::MakeSpan(values), {});
    for (size_t i = 0; i < values.size(); i += 4) {
      EXPECT_GE(std::count(values.begin() + i, values.begin() + i + 4, 0.0F), 2);
      for (size_t j = i; j < i + 4; ++j) EXPECT_TRUE(values[j] == 0 || values[j] == original[j]);
    }
  }
}

}  // namespace
}  // namespace linchpin
