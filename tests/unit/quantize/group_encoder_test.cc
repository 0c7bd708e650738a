#include "quantize/group_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/float16.h"
#include "tensor/float8.h"
#include "tests/support/every_target.h"

namespace linchpin {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// A slab of weights with room for its encoding.
struct Slab {
  Slab(DType dtype, int64_t rows, int64_t columns, int64_t group)
      : weights(rows * columns * SizeOf(dtype)),
        packed(rows * columns / 2),
        scales(rows * (columns / group) * SizeOf(dtype)) {
    request = {.dtype = dtype,
               .scale_dtype = dtype,
               .rows = rows,
               .columns = columns,
               .group_size = group,
               .weights = weights.data(),
               .codes = packed.data(),
               .scales = scales.data()};
  }
  Slab(const Slab&) = delete;

  void Set(int64_t index, float value) {
    StoreAs(request.dtype, value, weights.data() + index * SizeOf(request.dtype));
  }
  float Weight(int64_t index) const { return At(weights, index); }
  float Scale(int64_t group) const { return At(scales, group); }
  int Code(int64_t index) const {
    const int byte = static_cast<int>(packed[index / 2]);
    return (index % 2 == 0 ? byte & 15 : byte >> 4) - 8;
  }
  float Restored(int64_t index) const {
    return static_cast<float>(Code(index)) * Scale(index / request.group_size);
  }
  float At(const std::vector<std::byte>& bytes, int64_t index) const {
    float value = 0;
    WidenToFloat(request.dtype, bytes.data() + index * SizeOf(request.dtype), 1, &value);
    return value;
  }

  std::vector<std::byte> weights;
  std::vector<std::byte> packed;
  std::vector<std::byte> scales;
  EncodeRequest request;
};

// Weights as models have them: small, a few large ones, some zeros, ties,
// subnormals and whole groups of zeros.
void Fill(Slab& slab, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  const int64_t count = slab.request.rows * slab.request.columns;
  for (int64_t i = 0; i < count; ++i) {
    float value = normal(random);
    const uint32_t kind = random() % 200;
    if (kind == 0) value *= 100;
    if (kind == 1) value = 0;
    if (kind == 2) value = -0.0F;
    if (kind == 3) value = 0.25F;
    if (kind == 4) value = -0.25F;
    if (kind == 5) value = 3e-7F;
    if (i / slab.request.group_size % 13 == 5) value = 0;
    if (i / slab.request.group_size % 13 == 7) value *= 1e-5F;
    slab.Set(i, value);
  }
}

// The definition, one element at a time.
EncodeError Reference(const Slab& slab, std::vector<std::byte>& packed,
                      std::vector<std::byte>& scales) {
  const EncodeRequest& request = slab.request;
  packed.assign(slab.packed.size(), std::byte{0});
  scales.assign(slab.scales.size(), std::byte{0});
  EncodeError total;
  int64_t index = 0;
  for (int64_t row = 0; row < request.rows; ++row) {
    double row_squares = 0;
    for (int64_t first = 0; first < request.columns; first += request.group_size) {
      float largest = 0;
      for (int64_t i = index; i < index + request.group_size; ++i) {
        const float w = slab.Weight(i);
        if (std::fabs(w) > std::fabs(largest) || (w < 0 && -w == largest)) largest = w;
      }
      const float exact =
          request.rule == ScaleRule::kSigned ? -largest / 8 : std::fabs(largest) / 7.5F;
      float scale = RoundTo(request.dtype, exact);
      if (scale == 0) {
        scale = request.dtype == DType::kF32   ? std::numeric_limits<float>::epsilon()
                : request.dtype == DType::kF16 ? 0.0009765625F
                                               : 0.0078125F;
      }
      StoreAs(request.dtype, scale,
              scales.data() + index / request.group_size * SizeOf(request.dtype));
      double group_squares = 0;
      double group_largest = 0;
      for (int64_t run = 0; run < request.group_size; run += 128) {
        float lanes[8] = {};
        for (int64_t i = run; i < std::min(run + 128, request.group_size); ++i) {
          const float x = slab.Weight(index + i) / scale;
          const float q = std::nearbyint(std::clamp(x, -8.0F, 7.0F));
          const float error = x - q;
          lanes[i % 8] += error * error;
          group_largest = std::max<double>(group_largest, std::fabs(error));
          const int u = static_cast<int>(q) + 8;
          packed[(index + i) / 2] |= static_cast<std::byte>((index + i) % 2 == 0 ? u : u << 4);
        }
        double sums[8];
        for (int lane = 0; lane < 8; ++lane) sums[lane] = lanes[lane];
        group_squares += ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
                         ((sums[4] + sums[5]) + (sums[6] + sums[7]));
      }
      const double step = std::fabs(scale);
      total.max_abs = std::max(total.max_abs, step * group_largest);
      row_squares += step * step * group_squares;
      index += request.group_size;
    }
    total.sum_squares += row_squares;
  }
  return total;
}

using Case = std::tuple<DType, ScaleRule, int64_t /*columns*/, int64_t /*group*/>;

class EncodeOnEveryTarget : public ::testing::TestWithParam<Case> {};

TEST_P(EncodeOnEveryTarget, GivesTheBytesAndErrorsOfTheReference) {
  const auto [dtype, rule, columns, group] = GetParam();
  Slab slab(dtype, 17, columns, group);
  slab.request.rule = rule;
  Fill(slab, 7);
  std::vector<std::byte> packed;
  std::vector<std::byte> scales;
  const EncodeError expected = Reference(slab, packed, scales);

  ASSERT_GE(hwy::SupportedAndGeneratedTargets().size(), 2U) << "nothing to compare";
  OnEveryTarget([&](int64_t) {
    std::fill(slab.packed.begin(), slab.packed.end(), std::byte{0xee});
    std::fill(slab.scales.begin(), slab.scales.end(), std::byte{0xee});
    const EncodeError error = EncodeGroups(slab.request);
    EXPECT_EQ(slab.packed, packed);
    EXPECT_EQ(slab.scales, scales);
    EXPECT_EQ(error.max_abs, expected.max_abs);
    EXPECT_EQ(error.sum_squares, expected.sum_squares);
    EXPECT_EQ(error.first_non_finite, -1);
  });
}

INSTANTIATE_TEST_SUITE_P(
    All, EncodeOnEveryTarget,
    ::testing::Combine(::testing::ValuesIn(kDTypes),
                       ::testing::Values(ScaleRule::kSigned, ScaleRule::kMinMax),
                       ::testing::Values(384), ::testing::Values(8, 32, 64, 128, 384)));
INSTANTIATE_TEST_SUITE_P(RowsOfOddLength, EncodeOnEveryTarget,
                         ::testing::Combine(::testing::ValuesIn(kDTypes),
                                            ::testing::Values(ScaleRule::kSigned),
                                            ::testing::Values(264), ::testing::Values(264, 24)));

TEST(EncodeGroupsTest, SignedStoresTheLargestOfEveryGroupExactly) {
  for (const DType dtype : kDTypes) {
    Slab slab(dtype, 40, 256, 64);
    Fill(slab, 3);
    EncodeGroups(slab.request);
    for (int64_t group = 0; group < 40 * 4; ++group) {
      int64_t at = group * 64;
      for (int64_t i = at; i < (group + 1) * 64; ++i) {
        if (std::fabs(slab.Weight(i)) > std::fabs(slab.Weight(at))) at = i;
      }
      // Below, an eighth of it is not a number of the dtype any more.
      if (std::fabs(slab.Weight(at)) < 0x1p-11F) continue;
      EXPECT_EQ(std::fabs(slab.Restored(at)) >= std::fabs(slab.Weight(at)) * 0.87F, true);
      if (slab.Code(at) == -8) {
        EXPECT_EQ(slab.Restored(at), slab.Weight(at));
      }
    }
  }
}

TEST(EncodeGroupsTest, OfTwoEqualMagnitudesTheNegativeSetsTheScale) {
  Slab slab(DType::kBF16, 2, 32, 32);
  slab.Set(3, 2.0F);
  slab.Set(9, -2.0F);
  slab.Set(32 + 9, 2.0F);
  slab.Set(32 + 3, -2.0F);
  EncodeGroups(slab.request);
  for (const int64_t group : {0, 1}) EXPECT_EQ(slab.Scale(group), 0.25F);
  EXPECT_EQ(slab.Code(9), -8);
  EXPECT_EQ(slab.Code(3), 7);
  EXPECT_EQ(slab.Code(32 + 3), -8);
  EXPECT_EQ(slab.Code(32 + 9), 7);
}

TEST(EncodeGroupsTest, GroupsOfZerosHaveTheScaleOfCompressedTensors) {
  const std::pair<DType, float> expected[] = {
      {DType::kF32, 0x1p-23F}, {DType::kF16, 0x1p-10F}, {DType::kBF16, 0x1p-7F}};
  for (const auto& [dtype, epsilon] : expected) {
    for (const ScaleRule rule : {ScaleRule::kSigned, ScaleRule::kMinMax}) {
      Slab slab(dtype, 1, 64, 32);
      slab.request.rule = rule;
      slab.Set(40, -0.0F);
      const EncodeError error = EncodeGroups(slab.request);
      EXPECT_EQ(slab.Scale(0), epsilon);
      EXPECT_EQ(slab.Scale(1), epsilon);
      for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(slab.Code(i), 0);
      EXPECT_EQ(error.max_abs, 0);
    }
  }
}

TEST(EncodeGroupsTest, AScaleThatUnderflowsIsEpsilonAndTheLargestFiniteDoesNotOverflow) {
  EXPECT_EQ(GroupScale({}, ScaleRule::kSigned, DType::kF16, 0x1p-24F), 0x1p-10F);
  EXPECT_EQ(GroupScale({}, ScaleRule::kMinMax, DType::kF16, 0x1p-24F), 0x1p-10F);
  EXPECT_EQ(GroupScale({}, ScaleRule::kMinMax, DType::kF16, -65504.0F),
            RoundTo(DType::kF16, 65504 / 7.5F));
  const float largest = FromBF16(0x7f7f);
  EXPECT_EQ(GroupScale({}, ScaleRule::kSigned, DType::kBF16, largest), largest / -8);
  EXPECT_TRUE(std::isfinite(GroupScale({}, ScaleRule::kMinMax, DType::kBF16, largest)));
}

TEST(EncodeGroupsTest, ErrorsOfHugeWeightsStayFinite) {
  Slab slab(DType::kBF16, 1, 32, 32);
  for (int64_t i = 0; i < 32; ++i) slab.Set(i, FromBF16(0x7f7f) / static_cast<float>(i + 1));
  const EncodeError error = EncodeGroups(slab.request);
  EXPECT_TRUE(std::isfinite(error.sum_squares));
  EXPECT_GT(error.sum_squares, 1e70);
}

TEST(EncodeGroupsTest, ElementZeroLiesInTheLowestBits) {
  Slab slab(DType::kF32, 1, 8, 8);
  for (int64_t i = 0; i < 8; ++i) slab.Set(i, static_cast<float>(i - 8));  // -8 .. -1
  EncodeGroups(slab.request);
  EXPECT_EQ(slab.Scale(0), 1.0F);
  uint32_t word = 0;
  std::memcpy(&word, slab.packed.data(), 4);
  EXPECT_EQ(word, 0x76543210U);
}

TEST(EncodeGroupsTest, HalvesGoToTheEvenCode) {
  Slab slab(DType::kF32, 1, 8, 8);
  const float values[] = {-8.0F, -2.5F, -1.5F, -0.5F, 0.5F, 1.5F, 2.5F, 7.9F};
  for (int64_t i = 0; i < 8; ++i) slab.Set(i, values[i]);
  EncodeGroups(slab.request);
  const int codes[] = {-8, -2, -2, 0, 0, 2, 2, 7};
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(slab.Code(i), codes[i]) << i;
}

TEST(EncodeGroupsTest, FindsTheFirstNonFiniteWeight) {
  const float kBad[] = {
      std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
      std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  for (const DType dtype : kDTypes) {
    for (const float bad : kBad) {
      for (const int64_t at : {0, 77, 4 * 96 - 1}) {
        Slab slab(dtype, 4, 96, 32);
        Fill(slab, 1);
        slab.Set(at, bad);
        slab.Set(4 * 96 - 1, bad);
        EXPECT_EQ(EncodeGroups(slab.request).first_non_finite, at);
        EXPECT_EQ(FirstNonFinite(dtype, slab.weights.data(), 4 * 96), at);
      }
    }
    Slab sound(dtype, 4, 96, 32);
    Fill(sound, 1);
    EXPECT_EQ(FirstNonFinite(dtype, sound.weights.data(), 4 * 96 - 3), -1);
  }
}

TEST(EncodeErrorTest, AddsSlabAfterSlab) {
  EncodeError total{.max_abs = 1, .sum_squares = 2};
  total.Add({.max_abs = 0.5, .sum_squares = 1}, 100);
  EXPECT_EQ(total.max_abs, 1);
  EXPECT_EQ(total.sum_squares, 3);
  EXPECT_EQ(total.first_non_finite, -1);
  total.Add({.max_abs = 3, .sum_squares = 0, .first_non_finite = 7}, 200);
  EXPECT_EQ(total.max_abs, 3);
  EXPECT_EQ(total.first_non_finite, 207);
  total.Add({.first_non_finite = 0}, 300);
  EXPECT_EQ(total.first_non_finite, 207);
}

TEST(PinnedScaleTest, TheLargestItselfGetsTheSignedScale) {
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 5.875F, 5.875F), 5.875F / -8);
  EXPECT_EQ(PinnedScale(4, DType::kBF16, -5.875F, -5.875F), 5.875F / 8);
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 2.0F, -2.0F), -0.25F) << "a tie is not larger";
}

TEST(PinnedScaleTest, LargerMembersGetALargerStepOnTheirSide) {
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 2.0F, 3.0F), -0.5F);   // code -4, the 3 on -6
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 2.0F, -3.0F), 0.5F);   // code 4, the -3 on -6
  EXPECT_EQ(PinnedScale(4, DType::kBF16, -2.0F, 4.0F), -0.5F);  // code 4, the 4 on -8
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 2.0F, 5.0F), -1.0F);
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 2.0F, 16.0F), -2.0F);
  EXPECT_EQ(PinnedScale(4, DType::kBF16, 2.0F, 16.5F), 0) << "no step keeps both";
}

TEST(PinnedScaleTest, OnlyScalesThatAreExactInTheDType) {
  // Multiples of the smallest F16 number: an eighth is none, so the step grows.
  EXPECT_EQ(PinnedScale(4, DType::kF16, 8 * 0x1p-24F, 8 * 0x1p-24F), -0x1p-24F);
  EXPECT_EQ(PinnedScale(4, DType::kF16, 4 * 0x1p-24F, 4 * 0x1p-24F), -0x1p-24F);
  EXPECT_EQ(PinnedScale(4, DType::kF16, 3 * 0x1p-24F, 3 * 0x1p-24F), -3 * 0x1p-24F);
  EXPECT_EQ(PinnedScale(4, DType::kF16, 1000.1F, 1000.1F), 0) << "not a number of the dtype";
  EXPECT_EQ(PinnedScale(4, DType::kF32, 0, 1), 0);
  EXPECT_EQ(PinnedScale(4, DType::kF32, std::numeric_limits<float>::infinity(), 1), 0);
}

TEST(EncodeGroupsTest, PinnedWeightsComeBackBitForBit) {
  for (const DType dtype : kDTypes) {
    for (const ScaleRule rule : {ScaleRule::kSigned, ScaleRule::kMinMax}) {
      for (const float value : {5.8757F, -0.7F, 3e-6F, -60000.0F}) {
        Slab slab(dtype, 3, 128, 32);
        Fill(slab, 11);
        for (int64_t i = 0; i < 128; ++i) slab.Set(128 + i, slab.Weight(128 + i) * value);
        slab.Set(128 + 70, value);
        const PinnedElement pinned[] = {{1, 70}};
        slab.request.rule = rule;
        slab.request.pinned = pinned;
        EncodeGroups(slab.request);
        EXPECT_EQ(slab.Restored(128 + 70), slab.Weight(128 + 70)) << NameOf(dtype) << value;
        EXPECT_EQ(RoundTo(dtype, slab.Restored(128 + 70)), slab.Weight(128 + 70));
      }
    }
  }
}

TEST(EncodeGroupsTest, APinTouchesItsOwnGroupOnly) {
  Slab plain(DType::kBF16, 3, 128, 32);
  Slab pinned(DType::kBF16, 3, 128, 32);
  plain.request.rule = pinned.request.rule = ScaleRule::kMinMax;
  Fill(plain, 5);
  Fill(pinned, 5);
  for (Slab* slab : {&plain, &pinned}) slab->Set(2 * 128 + 33, 0.375F);
  const PinnedElement at[] = {{2, 33}};
  pinned.request.pinned = at;
  EncodeGroups(plain.request);
  EncodeGroups(pinned.request);
  for (int64_t group = 0; group < 12; ++group) {
    const bool same = group != 2 * 4 + 1;
    EXPECT_EQ(plain.Scale(group) == pinned.Scale(group), same) << group;
  }
}

// Any coding, any rule.
struct Encoded {
  Encoded(const Coding& coding, ScaleRule rule, int64_t rows, int64_t columns, int64_t group)
      : weights(static_cast<size_t>(rows * columns * 2)),
        importance(static_cast<size_t>(columns)),
        codes(static_cast<size_t>(rows * coding.RowBytes(columns))),
        scales(static_cast<size_t>(rows * (columns / group) * 2)),
        zeros(static_cast<size_t>(rows * (columns / group))) {
    Slab slab(DType::kBF16, rows, columns, group);
    Fill(slab, 21);
    weights = slab.weights;
    std::mt19937 random(4);
    for (float& value : importance) value = static_cast<float>(random() % 1000) / 100;
    request = {.coding = coding,
               .rows = rows,
               .columns = columns,
               .group_size = group,
               .rule = rule,
               .importance = importance,
               .weights = weights.data(),
               .codes = codes.data(),
               .scales = scales.data(),
               .zeros = coding.asymmetric ? zeros.data() : nullptr};
  }
  Encoded(const Encoded&) = delete;

  float Weight(int64_t index) const { return FromBF16(At16(weights, index)); }
  float Scale(int64_t group) const { return FromBF16(At16(scales, group)); }
  static uint16_t At16(const std::vector<std::byte>& bytes, int64_t index) {
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + 2 * index, 2);
    return bits;
  }

  std::vector<std::byte> weights;
  std::vector<float> importance;
  std::vector<std::byte> codes;
  std::vector<std::byte> scales;
  std::vector<int8_t> zeros;
  EncodeRequest request;
};

constexpr Coding kCodings[] = {{CodeKind::kPackedInt, 4, false},
                               {CodeKind::kPackedInt, 4, true},
                               {CodeKind::kPackedInt, 8, false},
                               {CodeKind::kInt8, 8, false},
                               {CodeKind::kFloat8, 8, false}};

TEST(EncodeGroupsTest, EveryCodingAndRuleGivesTheSameBytesOnEveryTarget) {
  for (const Coding& coding : kCodings) {
    for (const ScaleRule rule : {ScaleRule::kImportance, ScaleRule::kMse, ScaleRule::kMinMax}) {
      Encoded expected(coding, rule, 19, 192, 64);
      const EncodeError error = EncodeGroups(expected.request);
      OnEveryTarget([&](int64_t) {
        Encoded found(coding, rule, 19, 192, 64);
        const EncodeError same = EncodeGroups(found.request);
        EXPECT_EQ(found.codes, expected.codes);
        EXPECT_EQ(found.scales, expected.scales);
        EXPECT_EQ(found.zeros, expected.zeros);
        EXPECT_EQ(same.sum_squares, error.sum_squares);
        EXPECT_EQ(same.max_abs, error.max_abs);
      });
    }
  }
}

// So that slabs of any size give the same bytes.
TEST(EncodeGroupsTest, RowsDoNotKnowEachOther) {
  for (const Coding& coding : kCodings) {
    Encoded whole(coding, ScaleRule::kImportance, 37, 128, 32);
    EncodeGroups(whole.request);
    for (int64_t row = 0; row < 37; ++row) {
      Encoded alone(coding, ScaleRule::kImportance, 37, 128, 32);
      alone.request.rows = 1;
      alone.request.weights += row * 128 * 2;
      EncodeGroups(alone.request);
      const int64_t bytes = coding.RowBytes(128);
      EXPECT_TRUE(std::equal(alone.codes.begin(), alone.codes.begin() + bytes,
                             whole.codes.begin() + row * bytes));
      EXPECT_TRUE(std::equal(alone.scales.begin(), alone.scales.begin() + 8,
                             whole.scales.begin() + row * 8));
    }
  }
}

TEST(EncodeGroupsTest, Float8CodesAreTheNearest) {
  Encoded encoded({CodeKind::kFloat8, 8, false}, ScaleRule::kMinMax, 24, 256, 256);
  EncodeGroups(encoded.request);
  for (int64_t i = 0; i < 24 * 256; ++i) {
    const float x = encoded.Weight(i) / encoded.Scale(i / 256);
    const float q = FromF8E4M3(static_cast<uint8_t>(encoded.codes[static_cast<size_t>(i)]));
    for (int code = 0; code < 256; ++code) {
      if ((code & 0x7f) == 0x7f) continue;  // NaN
      const float other = FromF8E4M3(static_cast<uint8_t>(code));
      ASSERT_LE(std::fabs(x - q), std::fabs(x - other)) << x << " " << q;
      // Of two as near the even one.
      if (std::fabs(x - q) == std::fabs(x - other) && other != q) {
        ASSERT_EQ(static_cast<int>(encoded.codes[static_cast<size_t>(i)]) & 1, 0) << x;
      }
    }
  }
}

TEST(EncodeGroupsTest, ByteCodesAreRoundedQuotients) {
  for (const auto& [kind, bias] : {std::pair(CodeKind::kInt8, 0), {CodeKind::kPackedInt, 128}}) {
    Encoded encoded({kind, 8, false}, ScaleRule::kSigned, 20, 128, 64);
    EncodeGroups(encoded.request);
    for (int64_t i = 0; i < 20 * 128; ++i) {
      const float x = encoded.Weight(i) / encoded.Scale(i / 64);
      const int q = static_cast<int>(std::nearbyint(std::clamp(x, -128.0F, 127.0F)));
      ASSERT_EQ(static_cast<int>(encoded.codes[static_cast<size_t>(i)]), (q + bias) & 0xff) << i;
    }
  }
}

TEST(EncodeGroupsTest, ImportanceLosesLessOfWhatMatters) {
  const auto lost = [](ScaleRule rule) {
    Encoded encoded({CodeKind::kPackedInt, 4, false}, rule, 64, 256, 64);
    EncodeGroups(encoded.request);
    double sum = 0;
    for (int64_t i = 0; i < 64 * 256; ++i) {
      const int byte = static_cast<int>(encoded.codes[static_cast<size_t>(i / 2)]);
      const int code = (i % 2 == 0 ? byte & 15 : byte >> 4) - 8;
      const double off = encoded.Weight(i) - static_cast<double>(code) * encoded.Scale(i / 64);
      sum += encoded.importance[static_cast<size_t>(i % 256)] * off * off;
    }
    return sum;
  };
  const double weighed = lost(ScaleRule::kImportance);
  EXPECT_LT(weighed, lost(ScaleRule::kMse));
  EXPECT_LT(weighed, 0.95 * lost(ScaleRule::kSigned));
  EXPECT_LT(weighed, 0.9 * lost(ScaleRule::kMinMax));
}

TEST(EncodeGroupsTest, SearchedScalesOfZerosAreThoseOfCompressedTensors) {
  for (const Coding& coding : kCodings) {
    Encoded encoded(coding, ScaleRule::kImportance, 2, 64, 64);
    std::fill(encoded.weights.begin(), encoded.weights.end(), std::byte{0});
    EXPECT_EQ(EncodeGroups(encoded.request).max_abs, 0);
    EXPECT_EQ(encoded.Scale(0), 0x1p-7F);
    EXPECT_EQ(encoded.zeros[0], 0);
  }
}

}  // namespace
}  // namespace linchpin
