#include "quantize/scale_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"
#include "tests/support/every_target.h"

namespace linchpin {
namespace {

constexpr Coding kInt4{CodeKind::kPackedInt, 4, false};
constexpr Coding kAffine4{CodeKind::kPackedInt, 4, true};
constexpr Coding kPacked8{CodeKind::kPackedInt, 8, false};
constexpr Coding kInt8{CodeKind::kInt8, 8, false};
constexpr Coding kFloat8{CodeKind::kFloat8, 8, false};
constexpr Coding kCodings[] = {kInt4, kAffine4, kPacked8, kInt8, kFloat8};

// One group of kSearchRows rows, as models have them: small, now and then large.
struct Samples {
  explicit Samples(int64_t columns, uint32_t seed = 1) : columns(columns) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 0.02F);
    for (int64_t i = 0; i < columns * kSearchRows; ++i) {
      const float value = normal(random);
      weights.push_back(FromBF16(ToBF16(random() % 50 == 0 ? 6 * value : value)));
    }
    for (int64_t i = 0; i < columns; ++i) {
      const float size = normal(random);
      importance.push_back(random() % 20 == 0 ? 1e4F * size * size : size * size);
    }
  }
  BlockScales Search(const Coding& coding, DType dtype = DType::kBF16) const {
    return SearchScales({coding, dtype, columns, weights.data(), importance.data()});
  }
  // What is lost in one row, weighed, in double.
  double Error(const Coding& coding, int64_t row, double scale, double zero) const {
    double sum = 0;
    for (int64_t i = 0; i < columns; ++i) {
      const double w = weights[static_cast<size_t>(i * kSearchRows + row)];
      const double half = coding.exact();
      const double q = std::clamp(std::nearbyint(w / scale + zero), -half, half - 1);
      sum += importance[static_cast<size_t>(i)] * std::pow(w - (q - zero) * scale, 2);
    }
    return sum;
  }
  float Largest(int64_t row) const {
    float largest = 0;
    for (int64_t i = 0; i < columns; ++i) {
      const float w = weights[static_cast<size_t>(i * kSearchRows + row)];
      if (std::fabs(w) > std::fabs(largest) || w == -std::fabs(largest)) largest = w;
    }
    return largest;
  }

  int64_t columns;
  std::vector<float> weights;     // [columns, kSearchRows]
  std::vector<float> importance;  // [columns]
};

TEST(SearchScalesTest, EveryInstructionSetFindsTheSame) {
  ASSERT_GE(hwy::SupportedAndGeneratedTargets().size(), 2U) << "nothing to compare";
  for (const int64_t columns : {8, 24, 64, 200}) {
    const Samples samples(columns);
    for (const Coding& coding : kCodings) {
      for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
        const BlockScales expected = samples.Search(coding, dtype);
        OnEveryTarget([&](int64_t) {
          const BlockScales found = samples.Search(coding, dtype);
          for (int64_t row = 0; row < kSearchRows; ++row) {
            EXPECT_EQ(found.scale[row], expected.scale[row]);
            EXPECT_EQ(found.zero[row], expected.zero[row]);
          }
        });
      }
    }
  }
}

TEST(SearchScalesTest, ScalesAreNumbersOfTheirDType) {
  const Samples samples(64);
  for (const Coding& coding : kCodings) {
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      const BlockScales found = samples.Search(coding, dtype);
      for (const float scale : found.scale) {
        EXPECT_EQ(RoundTo(dtype, scale), scale);
        EXPECT_NE(scale, 0);
      }
    }
  }
}

TEST(SearchScalesTest, IsNeverWorseThanSignedOrMinMax) {
  for (const int64_t columns : {32, 64, 128, 576}) {
    const Samples samples(columns, 5);
    for (const Coding& coding : {kInt4, kInt8}) {
      const BlockScales found = samples.Search(coding);
      for (int64_t row = 0; row < kSearchRows; ++row) {
        const double best = samples.Error(coding, row, found.scale[row], 0);
        for (const ScaleRule rule : {ScaleRule::kSigned, ScaleRule::kMinMax}) {
          const float plain = GroupScale(coding, rule, DType::kBF16, samples.Largest(row));
          const bool refined = rule == ScaleRule::kMinMax;  // judged after its refinement only
          EXPECT_LE(best, (refined ? 1.02 : 1.00001) * samples.Error(coding, row, plain, 0)) << row;
        }
      }
    }
  }
}

TEST(SearchScalesTest, IsNearTheBestOfAFineSearch) {
  // Where a few channels outweigh all others, as 10^4 to 1, the best scale may be
  // any that suits these few: no grid has it.
  Samples samples(64, 9);
  for (float& importance : samples.importance) importance = std::min(importance, 1e-3F);
  const BlockScales found = samples.Search(kInt4);
  double ours = 0;
  double finest = 0;
  for (int64_t row = 0; row < kSearchRows; ++row) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = -1200; i <= 1200; ++i) {
      const float scale = RoundTo(DType::kBF16, samples.Largest(row) / -8 * 0.001F * i);
      if (scale != 0) best = std::min(best, samples.Error(kInt4, row, scale, 0));
    }
    ours += samples.Error(kInt4, row, found.scale[row], 0);
    finest += best;
  }
  EXPECT_LE(ours, 1.15 * finest);
  EXPECT_GE(ours, 0.999 * finest);
}

TEST(SearchScalesTest, ZeroPointsAreWholeAndBeatMinMax) {
  const Samples samples(64, 3);
  const BlockScales found = samples.Search(kAffine4);
  for (int64_t row = 0; row < kSearchRows; ++row) {
    const float zero = found.zero[row];
    EXPECT_EQ(zero, std::nearbyint(zero));
    EXPECT_GE(zero, -8);
    EXPECT_LE(zero, 7);
    float least = 0;
    float greatest = 0;
    for (int64_t i = 0; i < 64; ++i) {
      least = std::min(least, samples.weights[static_cast<size_t>(i * kSearchRows + row)]);
      greatest = std::max(greatest, samples.weights[static_cast<size_t>(i * kSearchRows + row)]);
    }
    const float scale = RoundTo(DType::kBF16, (greatest - least) / 15);
    const float place = std::nearbyint(std::clamp(-8 - least / scale, -8.0F, 7.0F));
    EXPECT_LE(samples.Error(kAffine4, row, found.scale[row], zero),
              1.00001 * samples.Error(kAffine4, row, scale, place));
  }
}

TEST(SearchScalesTest, AChannelThatDoesNotMatterIsGivenUp) {
  Samples samples(64);
  samples.importance.assign(64, 1.0F);
  samples.importance[7] = 0;
  for (int64_t row = 0; row < kSearchRows; ++row) samples.weights[7 * kSearchRows + row] = 0.3F;
  const BlockScales found = samples.Search(kInt4);
  const BlockScales alike =
      SearchScales({kInt4, DType::kBF16, 64, samples.weights.data(), nullptr});
  for (int64_t row = 0; row < kSearchRows; ++row) {
    EXPECT_LT(std::fabs(found.scale[row]), std::fabs(alike.scale[row]));
  }
}

TEST(SearchScalesTest, WhereNothingMattersTheSignedScaleStays) {
  Samples samples(32);
  samples.importance.assign(32, 0.0F);
  const BlockScales found = samples.Search(kInt4);
  for (int64_t row = 0; row < kSearchRows; ++row) {
    EXPECT_EQ(found.scale[row],
              GroupScale(kInt4, ScaleRule::kSigned, DType::kBF16, samples.Largest(row)));
  }
}

TEST(SearchScalesTest, ZerosAndTheSmallestNumbersHaveNoScale) {
  Samples samples(32);
  for (const float value : {0.0F, -0.0F, 1e-44F}) {
    std::fill(samples.weights.begin(), samples.weights.end(), value);
    for (const Coding& coding : kCodings) {
      for (const float scale : samples.Search(coding).scale) EXPECT_EQ(scale, 0) << value;
    }
  }
}

TEST(SearchScalesTest, ConstantGroupsComeBackAsTheyAre) {
  Samples samples(32);
  for (const float value : {0.5F, -0.5F}) {
    std::fill(samples.weights.begin(), samples.weights.end(), value);
    for (const Coding& coding : {kInt4, kInt8}) {
      EXPECT_EQ(samples.Error(coding, 0, samples.Search(coding).scale[0], 0), 0) << value;
    }
    // A fifteenth of it is no number of the dtype.
    const BlockScales affine = samples.Search(kAffine4);
    EXPECT_LE(samples.Error(kAffine4, 0, affine.scale[0], affine.zero[0]),
              std::pow(0.004 * value, 2) * 32 * 4);
  }
}

TEST(SearchScalesTest, TheLargestNumbersOverflowNothing) {
  Samples samples(32);
  for (float& weight : samples.weights) weight *= FromBF16(0x7f7f);
  for (float& weight : samples.weights) {
    weight = std::clamp(weight, -FromBF16(0x7f7f), FromBF16(0x7f7f));
  }
  for (const Coding& coding : kCodings) {
    for (const float scale : samples.Search(coding).scale) EXPECT_TRUE(std::isfinite(scale));
  }
}

TEST(ScaleSearch, RowsStandSideBySideOnEveryInstructionSet) {
  OnEveryTarget([](int64_t) {
    for (const int64_t columns : {int64_t{1}, int64_t{8}, int64_t{24}, int64_t{40}, int64_t{71}}) {
      std::vector<float> rows(static_cast<size_t>(columns * kSearchRows));
      std::iota(rows.begin(), rows.end(), 0.0F);
      std::vector<float> weights(rows.size() + 1, -1.0F);
      StandSideBySide(rows.data(), columns, weights.data());
      for (int64_t column = 0; column < columns; ++column) {
        for (int64_t row = 0; row < kSearchRows; ++row) {
          EXPECT_EQ(weights[static_cast<size_t>(column * kSearchRows + row)],
                    rows[static_cast<size_t>(row * columns + column)])
              << columns;
        }
      }
      EXPECT_EQ(weights.back(), -1.0F) << "no more is written";
    }
  });
}

}  // namespace
}  // namespace linchpin
