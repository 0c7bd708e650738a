#include "quantize/block_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quantize/super_block.h"
#include "tensor/float16.h"
#include "tests/support/every_target.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

constexpr const char* kAll[] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",
                                "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
constexpr const char* kSearched[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};

const GgufBlockType& Type(std::string_view name) {
  for (uint32_t id = 0; const GgufBlockType* type = FindGgufBlockType(id); ++id) {
    if (type->name == name) return *type;
  }
  ADD_FAILURE() << name;
  return *FindGgufBlockType(0);
}

struct Encoded {
  std::vector<std::byte> blocks;
  EncodeError error;
};

Encoded Encode(std::string_view name, const std::vector<float>& values, int64_t columns,
               const std::vector<float>& importance = {}, DType dtype = DType::kF32) {
  const GgufBlockType& type = Type(name);
  const auto count = static_cast<int64_t>(values.size());
  std::vector<std::byte> stored(static_cast<size_t>(count * SizeOf(dtype)));
  for (int64_t i = 0; i < count; ++i) {
    StoreAs(dtype, values[static_cast<size_t>(i)], stored.data() + i * SizeOf(dtype));
  }
  Encoded result;
  result.blocks.resize(static_cast<size_t>(count / type.elements * type.bytes));
  result.error = EncodeBlocks({.type = &type,
                               .dtype = dtype,
                               .rows = count / columns,
                               .columns = columns,
                               .importance = NormalizedImportance(importance),
                               .weights = stored.data(),
                               .blocks = result.blocks.data()});
  return result;
}

std::vector<float> Decode(std::string_view name, const std::vector<std::byte>& blocks) {
  const GgufBlockType& type = Type(name);
  const auto count = static_cast<int64_t>(blocks.size()) / type.bytes;
  std::vector<float> values(static_cast<size_t>(count * type.elements));
  if (type.dtype) {
    WidenToFloat(*type.dtype, blocks.data(), count, values.data());
  } else {
    type.decode(blocks.data(), count, values.data());
  }
  return values;
}

// Weights as models have them: small, a few large ones, zeros of both signs,
// ties, subnormals, groups of one sign and whole groups of zeros.
std::vector<float> Weights(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    float value = normal(random);
    const uint32_t kind = random() % 200;
    if (kind == 0) value *= 100;
    if (kind == 1) value = 0;
    if (kind == 2) value = -0.0F;
    if (kind == 3) value = 0.25F;
    if (kind == 4) value = -0.25F;
    if (kind == 5) value = 3e-7F;
    if (i / 32 % 13 == 5) value = i % 3 == 0 ? -0.0F : 0.0F;
    if (i / 32 % 13 == 7) value *= 1e-5F;
    if (i / 32 % 13 == 9) value = std::fabs(value);
    if (i / 32 % 13 == 11) value = -std::fabs(value);
    values[i] = value;
  }
  return values;
}

std::vector<float> Importance(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.5F);
  std::vector<float> values(count);
  for (float& value : values) value = std::exp(normal(random));
  return values;
}

double WeightedError(const std::vector<float>& values, const std::vector<float>& read,
                     const std::vector<float>& importance) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = static_cast<double>(values[i]) - read[i];
    sum += error * error * importance[i % importance.size()];
  }
  return sum;
}

class BlockEncoderOracle : public ::testing::TestWithParam<const char*> {};

// What gguf-py writes for the same values.
TEST_P(BlockEncoderOracle, EveryByteIsThatOfTheReference) {
  LINCHPIN_NEEDS_SHARED();
  const std::string stem = std::string("oracles/packings/gguf/") + GetParam();
  const std::string stored = ReadFileText(SharedPath(stem + ".f32"));
  std::vector<float> values(16 * 256);
  ASSERT_EQ(stored.size(), values.size() * sizeof(float));
  std::memcpy(values.data(), stored.data(), stored.size());
  const Encoded ours = Encode(GetParam(), values, 256);
  const std::string expected = ReadFileText(SharedPath(stem + ".blocks"));
  ASSERT_EQ(ours.blocks.size(), expected.size());
  EXPECT_EQ(std::memcmp(ours.blocks.data(), expected.data(), expected.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Types, BlockEncoderOracle,
                         ::testing::Values("BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
                         [](const auto& info) { return std::string(info.param); });

// What a plain loop makes of 32 values: ggml's quantize_row_q4_0_ref, ..q4_1_ref and ..q8_0_ref.
std::vector<uint8_t> PlainLoop(std::string_view type, const float* x) {
  const auto half = [](float value) { return ClampedHalf(value); };
  float low = x[0], high = x[0], largest = 0;
  for (int i = 0; i < 32; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float step = type == "Q4_0"   ? largest / -8
                     : type == "Q4_1" ? (high - low) / 15
                                      : std::fabs(largest) / 127;
  const float exact = step == 0 ? 0 : 1 / step;
  const float inverse = std::isfinite(exact) ? exact : 0;
  std::vector<uint8_t> block = {static_cast<uint8_t>(half(step)),
                                static_cast<uint8_t>(half(step) >> 8)};
  if (type == "Q4_1") {
    block.push_back(static_cast<uint8_t>(half(low)));
    block.push_back(static_cast<uint8_t>(half(low) >> 8));
  }
  const auto code = [&](float value) {
    if (type == "Q8_0") return static_cast<int>(std::round(value * inverse));
    const float place = type == "Q4_0" ? value * inverse + 8.5F : (value - low) * inverse + 0.5F;
    return std::min(15, static_cast<int>(place));
  };
  for (int i = 0; i < (type == "Q8_0" ? 32 : 16); ++i) {
    const int first = code(x[i]);
    block.push_back(static_cast<uint8_t>(type == "Q8_0" ? first : first | code(x[i + 16]) << 4));
  }
  return block;
}

// Scales of every size that F16 has, and beyond; the last blocks fill no vector.
TEST(BlockEncoder, RoundsEveryScaleAsAPlainLoopDoes) {
  constexpr int kBlocks = 16 * 67 + 5;
  std::mt19937 random(31);
  std::normal_distribution<float> normal;
  std::vector<float> values(kBlocks * 32);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::ldexp(normal(random), static_cast<int>(i / 32 % 60) - 36);
  }
  for (const char* type : {"Q4_0", "Q4_1", "Q8_0"}) {
    std::vector<uint8_t> expected;
    for (size_t at = 0; at < values.size(); at += 32) {
      const std::vector<uint8_t> block = PlainLoop(type, values.data() + at);
      expected.insert(expected.end(), block.begin(), block.end());
    }
    OnEveryTarget([&](int64_t) {
      const Encoded ours = Encode(type, values, static_cast<int64_t>(values.size()));
      ASSERT_EQ(ours.blocks.size(), expected.size());
      EXPECT_EQ(std::memcmp(ours.blocks.data(), expected.data(), expected.size()), 0) << type;
    });
  }
}

class EveryBlockType : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryBlockType, GivesTheSameBytesOnEveryInstructionSet) {
  ASSERT_GE(hwy::SupportedAndGeneratedTargets().size(), 2U) << "nothing to compare";
  const std::vector<float> values = Weights(6 * 768, 7);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::vector<float>& importance : {std::vector<float>(), Importance(768, 3)}) {
      std::vector<Encoded> results;
      OnEveryTarget([&](int64_t) {
        results.push_back(Encode(GetParam(), values, 768, importance, dtype));
        EXPECT_EQ(results.back().blocks, results.front().blocks);
        EXPECT_EQ(results.back().error.max_abs, results.front().error.max_abs);
        EXPECT_EQ(results.back().error.sum_squares, results.front().error.sum_squares);
      });
    }
  }
}

TEST_P(EveryBlockType, TheErrorIsThatOfWhatAReaderGets) {
  const std::vector<float> values = Weights(4 * 512, 11);
  for (const std::vector<float>& importance : {std::vector<float>(), Importance(512, 4)}) {
    const Encoded encoded = Encode(GetParam(), values, 512, importance);
    const std::vector<float> read = Decode(GetParam(), encoded.blocks);
    double worst = 0;
    double squares = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double error = std::fabs(static_cast<double>(values[i]) - read[i]);
      worst = std::max(worst, error);
      squares += error * error;
    }
    EXPECT_NEAR(encoded.error.max_abs, worst, 1e-5 * worst);
    EXPECT_NEAR(encoded.error.sum_squares, squares, 1e-4 * squares);
  }
}

TEST_P(EveryBlockType, ValuesOnTheGridComeBackAsTheyAre) {
  // Steps of a power of two from a block's least to its largest code; the K types
  // store such a step as a fraction of another.
  const std::string name = GetParam();
  const bool five_bits = name.starts_with("Q5");
  std::vector<float> values(2 * 256);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = five_bits ? 0.25F * (static_cast<float>(i % 32) - 16)
                          : 0.25F * (static_cast<float>(i % 16) - 8);
  }
  const std::vector<float> read = Decode(name, Encode(name, values, 256).blocks);
  const float allowed = name == "Q8_0" ? 0.01F : name.ends_with("_K") ? 0.005F : 0;
  for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(read[i], values[i], allowed) << i;
}

TEST_P(EveryBlockType, NamesTheFirstWeightThatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values = Weights(4 * 256, 1);
    values[300] = values[900] = bad;
    EXPECT_EQ(Encode(GetParam(), values, 256).error.first_non_finite, 300);
  }
}

TEST_P(EveryBlockType, HugeAndTinyWeightsGiveFiniteValues) {
  for (const float size : {3e38F, 1e20F, 1e7F, 1e-30F, 1e-40F, 0.0F}) {
    std::vector<float> values = Weights(2 * 256, 2);
    for (float& value : values) value = std::clamp(value * 4, -1.0F, 1.0F) * size;
    for (const std::vector<float>& importance : {std::vector<float>(), Importance(256, 4)}) {
      const Encoded encoded = Encode(GetParam(), values, 256, importance);
      EXPECT_EQ(encoded.error.first_non_finite, -1);
      for (const float value : Decode(GetParam(), encoded.blocks)) {
        ASSERT_TRUE(std::isfinite(value)) << size;
        if (size < 1e-20F) {
          ASSERT_LE(std::fabs(value), 1e-6F);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryBlockType, ::testing::ValuesIn(kAll),
                         [](const auto& info) { return std::string(info.param); });

class SearchedBlockType : public ::testing::TestWithParam<const char*> {};

TEST_P(SearchedBlockType, ImportanceLessensTheErrorThatItWeighs) {
  std::mt19937 random(21);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> values(8 * 768);
  for (float& value : values) value = normal(random) * (random() % 300 == 0 ? 20.0F : 1.0F);
  const std::vector<float> importance = Importance(768, 5);
  const auto error = [&](const std::vector<float>& given) {
    return WeightedError(values, Decode(GetParam(), Encode(GetParam(), values, 768, given).blocks),
                         importance);
  };
  EXPECT_LT(error(importance), 0.97 * error({}));
}

TEST_P(SearchedBlockType, ImportanceOfNothingIsThatOfEverything) {
  const std::vector<float> values = Weights(2 * 256, 21);
  const auto zeros = Encode(GetParam(), values, 256, std::vector<float>(256, 0.0F));
  const auto ones = Encode(GetParam(), values, 256, std::vector<float>(256, 1.0F));
  EXPECT_NEAR(zeros.error.sum_squares, ones.error.sum_squares, 0.05 * ones.error.sum_squares);
}

TEST_P(SearchedBlockType, RowsDoNotDependOnTheirSlab) {
  const std::vector<float> values = Weights(6 * 768, 9);
  const std::vector<float> importance = Importance(768, 5);
  const Encoded whole = Encode(GetParam(), values, 768, importance);
  std::vector<std::byte> parts;
  for (int row = 0; row < 6; ++row) {
    const auto first = values.begin() + row * 768;
    const Encoded part =
        Encode(GetParam(), std::vector<float>(first, first + 768), 768, importance);
    parts.insert(parts.end(), part.blocks.begin(), part.blocks.end());
  }
  EXPECT_EQ(whole.blocks, parts);
}

TEST_P(SearchedBlockType, ABlockDoesNotDependOnThoseBesideIt) {
  // Sixteen groups are searched at once; 7 times 256 fill no whole number of such batches.
  constexpr int64_t kPart = 256;
  const std::vector<float> values = Weights(7 * kPart, 13);
  const std::vector<float> of_part = Importance(kPart, 6);
  std::vector<float> of_row;
  std::vector<std::byte> parts;
  for (int part = 0; part < 7; ++part) {
    of_row.insert(of_row.end(), of_part.begin(), of_part.end());
    const auto first = values.begin() + part * kPart;
    const Encoded alone =
        Encode(GetParam(), std::vector<float>(first, first + kPart), kPart, of_part);
    parts.insert(parts.end(), alone.blocks.begin(), alone.blocks.end());
  }
  EXPECT_EQ(Encode(GetParam(), values, 7 * kPart, of_row).blocks, parts);
}

INSTANTIATE_TEST_SUITE_P(All, SearchedBlockType, ::testing::ValuesIn(kSearched),
                         [](const auto& info) { return std::string(info.param); });

TEST(BlockEncoder, RowsOfOneBlockOfThirtyTwo) {
  const std::vector<float> values = Weights(3 * 32, 9);
  for (const char* name : {"Q4_0", "Q5_1"}) {
    const Encoded encoded = Encode(name, values, 32, std::vector<float>(32, 1.0F));
    const std::vector<float> read = Decode(name, encoded.blocks);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(read[i], values[i], encoded.error.max_abs * 1.001);
    }
  }
}

TEST(BlockEncoder, PlainTypesTakeAnyNumberOfElements) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  std::vector<float> values(3 * 71);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::ldexp(normal(random), static_cast<int>(i % 50) - 34);
  }
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const float bound = dtype == DType::kF16 ? 65504.0F : 0x1.fep127F;
    std::vector<std::byte> expected(values.size() * 2);
    for (size_t i = 0; i < values.size(); ++i) {
      StoreAs(dtype, std::clamp(values[i], -bound, bound), expected.data() + 2 * i);
    }
    OnEveryTarget([&](int64_t) {
      for (const int64_t columns : {int64_t{1}, int64_t{3}, int64_t{71}, int64_t{213}}) {
        EXPECT_EQ(Encode(NameOf(dtype), values, columns).blocks, expected) << columns;
      }
    });
  }
}

TEST(BlockEncoder, OnlyTypesThatHaveAnEncoder) {
  for (const char* name : kAll) EXPECT_TRUE(CanEncode(Type(name))) << name;
  for (const char* name : {"Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "I32", "F64", "Q8_1"}) {
    EXPECT_FALSE(CanEncode(Type(name))) << name;
  }
}

TEST(SuperBlock, HalvesDoNotOverflow) {
  EXPECT_EQ(ClampedHalf(1e9F), 0x7bff);
  EXPECT_EQ(ClampedHalf(-1e9F), 0xfbff);
  EXPECT_EQ(ClampedHalf(0.5F), ToF16(0.5F));
}

}  // namespace
}  // namespace linchpin
