#include "quantize/clipped_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

struct Shape {
  int64_t rows = 0;
  int64_t columns = 0;
};

std::vector<float> Weights(const Shape& shape, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.01F, 0.02F);
  std::vector<float> values(static_cast<size_t>(shape.rows * shape.columns));
  for (float& value : values) value = normal(random) * (random() % 200 == 0 ? 30.0F : 1.0F);
  return values;
}

// Slabs of 3 rows, measured, then rounded.
EncodeError RoundAll(const BlockOptions& options, const Shape& shape, std::vector<float>& values) {
  ClippedBlocks blocks(options, shape.rows, shape.columns);
  EncodeError total;
  const auto slab = [&](int64_t first) {
    return absl::MakeSpan(values).subspan(
        static_cast<size_t>(first * shape.columns),
        static_cast<size_t>(std::min<int64_t>(3, shape.rows - first) * shape.columns));
  };
  for (int64_t first = 0; first < shape.rows; first += 3) blocks.Measure(first, slab(first));
  for (int64_t first = 0; first < shape.rows; first += 3) {
    total.Add(blocks.Round(first, slab(first)), first * shape.columns);
  }
  return total;
}

// The definition, for the elements of one block.
void ReferenceBlock(const BlockOptions& options, const std::vector<size_t>& members,
                    std::vector<float>& values) {
  const auto n = static_cast<double>(members.size());
  double mean = 0;
  for (const size_t i : members) mean += std::fabs(values[i]) / n;
  double variance = 0;
  for (const size_t i : members) variance += std::pow(std::fabs(values[i]) - mean, 2) / (n - 1);
  float bound = std::numeric_limits<float>::infinity();
  if (options.z > 0 && n > 1) bound = static_cast<float>(mean + options.z * std::sqrt(variance));
  float low = std::numeric_limits<float>::infinity();
  float high = -low;
  for (const size_t i : members) {
    values[i] = std::clamp(values[i], -bound, bound);
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  const float step = (high - low) / static_cast<float>(std::pow(2, options.bits) - 1);
  for (const size_t i : members) {
    values[i] = step == 0 ? low : std::nearbyint((values[i] - low) / step) * step + low;
  }
}

void Reference(const BlockOptions& options, const Shape& shape, std::vector<float>& values) {
  const int64_t across = options.tile > 0 ? (shape.columns - 1) / options.tile + 1 : 1;
  std::vector<std::vector<size_t>> blocks(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / shape.columns;
    const int64_t column = static_cast<int64_t>(i) % shape.columns;
    const int64_t block = options.tile > 0 ? row / options.tile * across + column / options.tile
                                           : static_cast<int64_t>(i) / options.run;
    blocks[static_cast<size_t>(block)].push_back(i);
  }
  for (const std::vector<size_t>& members : blocks) {
    if (!members.empty()) ReferenceBlock(options, members, values);
  }
}

TEST(ClippedBlocksTest, RoundsAsTheDefinitionSays) {
  const Shape shape{10, 37};
  for (const int bits : {2, 3, 4, 5, 8}) {
    for (const float z : {0.0F, 2.0F, 9.0F}) {
      for (const BlockOptions& options :
           {BlockOptions{bits, 16, 0, z}, BlockOptions{bits, 37, 0, z},
            BlockOptions{bits, 100, 0, z}, BlockOptions{bits, 1 << 20, 0, z},
            BlockOptions{bits, 16, 4, z}, BlockOptions{bits, 16, 64, z}}) {
        std::vector<float> values = Weights(shape, 3);
        std::vector<float> expected = values;
        Reference(options, shape, expected);
        RoundAll(options, shape, values);
        for (size_t i = 0; i < values.size(); ++i) {
          // The bound's last bit depends on the order of a sum.
          ASSERT_NEAR(values[i], expected[i], 1e-6 * std::max(1.0F, std::fabs(expected[i])))
              << i << " bits " << bits << " z " << z << " run " << options.run;
        }
      }
    }
  }
}

TEST(ClippedBlocksTest, TheErrorIsThatOfWhatCameOut) {
  const Shape shape{10, 37};
  const std::vector<float> before = Weights(shape, 4);
  std::vector<float> after = before;
  const EncodeError error = RoundAll({4, 64, 0, 3}, shape, after);
  double worst = 0;
  double squares = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double miss = std::fabs(static_cast<double>(before[i]) - after[i]);
    worst = std::max(worst, miss);
    squares += miss * miss;
  }
  EXPECT_EQ(error.max_abs, worst);
  EXPECT_NEAR(error.sum_squares, squares, 1e-9 * squares);
}

TEST(ClippedBlocksTest, OneLargeWeightHarmsItsBlockAndClippingHelpsTheRest) {
  const Shape shape{64, 1024};
  std::vector<float> values(65536);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  for (float& value : values) value = normal(random);
  values[100] = 1;
  const auto rest = [&](float z) {
    std::vector<float> rounded = values;
    RoundAll({4, 65536, 0, z}, shape, rounded);
    double squares = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i != 100) squares += std::pow(values[i] - rounded[i], 2);
    }
    return squares;
  };
  EXPECT_LT(rest(9), 0.5 * rest(0));
}

TEST(ClippedBlocksTest, AWeightHeldOutIsNoPartOfTheRange) {
  const std::vector<float> values = {0, 1, 2, 3, 100, 0, 1, 2};
  const PinnedElement held[] = {{1, 0}};
  ClippedBlocks blocks({2, 8, 0, 0}, 2, 4);
  blocks.Measure(0, values, held);
  std::vector<float> rounded = values;
  blocks.Round(0, absl::MakeSpan(rounded));
  EXPECT_EQ(rounded, (std::vector<float>{0, 1, 2, 3, 3, 0, 1, 2}));
}

TEST(ClippedBlocksTest, ABlockOfOneValueStaysAsItIs) {
  for (const float z : {0.0F, 9.0F}) {
    std::vector<float> values(20, -0.3F);
    values[19] = 7;  // a block of its own
    const std::vector<float> before = values;
    const EncodeError error = RoundAll({4, 19, 0, z}, {4, 5}, values);
    EXPECT_EQ(values, before);
    EXPECT_EQ(error.max_abs, 0);
  }
}

TEST(ClippedBlocksTest, NamesTheFirstWeightThatIsNotFinite) {
  std::vector<float> values(12, 1.0F);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(RoundAll({4, 5, 0, 0}, {4, 3}, values).first_non_finite, 7);
}

}  // namespace
}  // namespace linchpin
