// What a plan's row becomes: by which rule, and weighed by what.
#include "quantize/slab_encoder.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quantize/block_encoder.h"
#include "quantize/equalization.h"
#include "quantize/gguf_plan.h"
#include "quantize/packed_tensors.h"
#include "storage/memory_storage.h"
#include "tensor/float16.h"
#include "tensor/float8.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr int64_t kRows = 24;  // words of zero points hold eight
constexpr int64_t kColumns = 256;
constexpr char kName[] = "w.weight";

struct Kind {
  Scheme scheme;
  bool asymmetric = false;
};
constexpr Kind kGroups[] = {
    {Scheme::kW4A16}, {Scheme::kW4A16, true}, {Scheme::kW8A16}, {Scheme::kW8A8}, {Scheme::kFp8}};
constexpr Scheme kWeighedBlocks[] = {Scheme::kQ4_0, Scheme::kQ4_1, Scheme::kQ5_0, Scheme::kQ5_1,
                                     Scheme::kQ4_K, Scheme::kQ5_K, Scheme::kQ6_K};

PlanRow RowOf(const Kind& kind, ScaleRule rule) {
  PlanRow row;
  row.source.info = {kName, DType::kBF16, {kRows, kColumns}};
  row.quantized = true;
  row.scheme = kind.scheme;
  row.asymmetric = kind.asymmetric;
  row.scale = rule;
  row.group_size = TraitsOf(kind.scheme).groups ? 64 : kColumns;
  row.outputs = PackedTensors(row);
  return row;
}

PlanRow GgufRowOf(Scheme scheme, ScaleRule rule) {
  PlanRow row = RowOf({scheme}, rule);
  row.gguf = RowEncoding{.type = FindGgufBlockType(TraitsOf(scheme).gguf_type)};
  row.outputs = {{kName, DType::kU8, {kRows, GgufRowBytes(*row.gguf->type, kColumns)}}};
  return row;
}

// In BF16, small and now and then large.
std::vector<std::byte> Weights() {
  std::vector<std::byte> bytes(kRows * kColumns * 2);
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    const uint64_t bits = MixBits(static_cast<uint64_t>(i));
    const float value = (static_cast<float>(bits % 65536) - 32768) / 524288;
    StoreAs(DType::kBF16, bits >> 32 & 63 ? value : 6 * value, bytes.data() + 2 * i);
  }
  return bytes;
}

std::vector<float> WidenedBF16(const std::vector<std::byte>& bytes) {
  std::vector<float> values(bytes.size() / 2);
  WidenToFloat(DType::kBF16, bytes.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

InputStatistics Statistics(uint64_t seed = 7) {
  InputStatistics statistics{.tokens = 5};
  for (int64_t i = 0; i < kColumns; ++i) {
    const uint64_t bits = MixBits(seed * 1000 + static_cast<uint64_t>(i));
    const auto square = static_cast<float>(1 + bits % 512) / 64;
    statistics.mean_squares.push_back((bits >> 32) % 16 == 0 ? 256 * square : square);
  }
  return statistics;
}

Importance Measured(const std::string& name = kName) {
  return {{name, std::make_shared<InputStatistics>(Statistics())}};
}

using Bytes = std::vector<std::vector<std::byte>>;

Bytes Encode(Format format, const PlanRow& row, const Importance* importance,
             const std::vector<std::byte>& weights = Weights()) {
  Bytes bytes;
  const auto encoder = MakeEncoder({.format = format, .scheme = row.scheme}, row, importance);
  EXPECT_LT(encoder->Encode(0, kRows, weights.data(), bytes).first_non_finite, 0);
  return bytes;
}

// The encoder of groups by itself: codes and scales, then zero points where there are any.
Bytes Grouped(const PlanRow& row, ScaleRule rule, const std::vector<float>& importance,
              const std::vector<std::byte>& weights = Weights()) {
  const Coding coding = CodingOf(row.scheme, row.asymmetric);
  const int64_t groups = kColumns / row.group_size;
  Bytes bytes(2);
  bytes[0].resize(static_cast<size_t>(kRows * coding.RowBytes(kColumns)));
  bytes[1].resize(static_cast<size_t>(kRows * groups * 2));
  std::vector<int8_t> zeros(static_cast<size_t>(kRows * groups));
  EncodeGroups({.coding = coding,
                .rows = kRows,
                .columns = kColumns,
                .group_size = row.group_size,
                .rule = rule,
                .importance = importance,
                .weights = weights.data(),
                .codes = bytes[0].data(),
                .scales = bytes[1].data(),
                .zeros = row.asymmetric ? zeros.data() : nullptr});
  if (row.asymmetric) bytes.push_back(PackZeroPoints(zeros, groups, coding.bits));
  return bytes;
}

std::vector<std::byte> Blocks(Scheme scheme, const std::vector<float>& importance) {
  const GgufBlockType& type = *FindGgufBlockType(TraitsOf(scheme).gguf_type);
  const std::vector<std::byte> weights = Weights();
  std::vector<std::byte> blocks(static_cast<size_t>(kRows * GgufRowBytes(type, kColumns)));
  EncodeBlocks({.type = &type,
                .dtype = DType::kBF16,
                .rows = kRows,
                .columns = kColumns,
                .importance = importance,
                .weights = weights.data(),
                .blocks = blocks.data()});
  return blocks;
}

// Codes, scales and zero points are the first outputs of a row.
void ExpectStartsWith(const Bytes& found, const Bytes& expected, std::string_view what) {
  ASSERT_GE(found.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(found[i] == expected[i]) << what << ", output " << i;
  }
}

std::string NameOf(const Kind& kind) {
  return std::string(NameOf(kind.scheme)) + (kind.asymmetric ? " asymmetric" : "");
}

TEST(SlabEncoderTest, TheDefaultRuleWeighsEveryCodingByWhatComesIn) {
  const Importance importance = Measured();
  const std::vector<float> weighed = ErrorWeights(Statistics());
  for (const Kind& kind : kGroups) {
    const PlanRow row = RowOf(kind, ScaleRule::kImportance);
    const Bytes expected = Grouped(row, ScaleRule::kImportance, weighed);
    ExpectStartsWith(Encode(Format::kCompressedTensors, row, &importance), expected, NameOf(kind));
    for (const ScaleRule other : {ScaleRule::kSigned, ScaleRule::kMinMax, ScaleRule::kMse}) {
      EXPECT_FALSE(Grouped(row, other, {})[0] == expected[0]) << NameOf(kind) << NameOf(other);
    }
  }
}

TEST(SlabEncoderTest, OtherRulesAskForNoImportance) {
  const Importance importance = Measured();
  for (const Kind& kind : kGroups) {
    for (const ScaleRule rule : {ScaleRule::kSigned, ScaleRule::kMinMax, ScaleRule::kMse}) {
      if (kind.asymmetric && rule == ScaleRule::kSigned) continue;
      const PlanRow row = RowOf(kind, rule);
      EXPECT_THAT(ImportanceOf(row, &importance), IsEmpty());
      ExpectStartsWith(Encode(Format::kCompressedTensors, row, &importance), Grouped(row, rule, {}),
                       NameOf(kind));
    }
  }
}

TEST(SlabEncoderTest, WhatNothingIsKnownOfIsSignedOrMinMax) {
  const Importance of_another = Measured("other.weight");
  for (const Kind& kind : kGroups) {
    const PlanRow row = RowOf(kind, ScaleRule::kImportance);
    const ScaleRule rule = kind.asymmetric ? ScaleRule::kMinMax : ScaleRule::kSigned;
    for (const Importance* importance : {static_cast<const Importance*>(nullptr), &of_another}) {
      ExpectStartsWith(Encode(Format::kCompressedTensors, row, importance), Grouped(row, rule, {}),
                       NameOf(kind));
    }
  }
}

float CodeAt(const Coding& coding, const std::vector<std::byte>& codes, size_t i) {
  const auto byte = static_cast<uint8_t>(codes[i * static_cast<size_t>(coding.bits) / 8]);
  if (coding.kind == CodeKind::kFloat8) return FromF8E4M3(byte);
  if (coding.kind == CodeKind::kInt8) return static_cast<float>(static_cast<int8_t>(byte));
  if (coding.bits == 8) return static_cast<float>(byte) - 128;
  return static_cast<float>(i % 2 == 0 ? byte & 15 : byte >> 4) - 8;
}

// Zero point of (row, group): compressed-tensors packs eight rows to a word.
float ZeroAt(const std::vector<std::byte>& zeros, int64_t groups, int64_t row, int64_t group) {
  uint32_t word = 0;
  std::memcpy(&word, zeros.data() + (row / 8 * groups + group) * 4, sizeof(word));
  return static_cast<float>(word >> row % 8 * 4 & 15) - 8;
}

std::vector<std::byte> Restored(const PlanRow& row, const Bytes& coded) {
  const Coding coding = CodingOf(row.scheme, row.asymmetric);
  const int64_t groups = kColumns / row.group_size;
  const std::vector<float> scales = WidenedBF16(coded[1]);
  std::vector<std::byte> bytes(kRows * kColumns * 2);
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    const int64_t group = i / row.group_size;
    const float zero =
        row.asymmetric ? ZeroAt(coded[2], groups, group / groups, group % groups) : 0;
    const float code = CodeAt(coding, coded[0], static_cast<size_t>(i));
    StoreAs(DType::kBF16, (code - zero) * scales[static_cast<size_t>(group)], bytes.data() + 2 * i);
  }
  return bytes;
}

TEST(SlabEncoderTest, DenseIsWhatAReaderOfTheCodesGets) {
  const Importance importance = Measured();
  for (const Kind& kind : kGroups) {
    for (const ScaleRule rule : {ScaleRule::kImportance, ScaleRule::kMinMax, ScaleRule::kMse}) {
      const PlanRow row = RowOf(kind, rule);
      const Bytes coded = Grouped(row, rule, ErrorWeights(Statistics()));
      EXPECT_TRUE(Encode(Format::kDense, row, &importance)[0] == Restored(row, coded))
          << NameOf(kind) << " " << NameOf(rule);
    }
  }
}

TEST(SlabEncoderTest, TheDefaultRuleWeighsTheBlocksOfGguf) {
  const Importance importance = Measured();
  const std::vector<float> weighed = NormalizedImportance(ErrorWeights(Statistics()));
  for (const Scheme scheme : kWeighedBlocks) {
    const PlanRow row = GgufRowOf(scheme, ScaleRule::kImportance);
    const std::vector<std::byte> expected = Blocks(scheme, weighed);
    EXPECT_TRUE(Encode(Format::kGguf, row, &importance)[0] == expected) << NameOf(scheme);
    EXPECT_FALSE(Blocks(scheme, {}) == expected) << NameOf(scheme);
    EXPECT_TRUE(Encode(Format::kGguf, row, nullptr)[0] == Blocks(scheme, {})) << NameOf(scheme);

    const PlanRow minmax = GgufRowOf(scheme, ScaleRule::kMinMax);
    EXPECT_TRUE(Encode(Format::kGguf, minmax, &importance)[0] == Blocks(scheme, {}));
    const PlanRow mse = GgufRowOf(scheme, ScaleRule::kMse);
    const std::vector<float> ones(kColumns, 1.0F);
    EXPECT_TRUE(Encode(Format::kGguf, mse, &importance)[0] == Blocks(scheme, ones));
  }
}

TEST(SlabEncoderTest, DenseIsWhatAReaderOfTheBlocksGets) {
  const Importance importance = Measured();
  const std::vector<float> weighed = NormalizedImportance(ErrorWeights(Statistics()));
  for (const Scheme scheme : kWeighedBlocks) {
    const GgufBlockType& type = *FindGgufBlockType(TraitsOf(scheme).gguf_type);
    const std::vector<std::byte> blocks = Blocks(scheme, weighed);
    std::vector<float> values(kRows * kColumns);
    type.decode(blocks.data(), kRows * kColumns / type.elements, values.data());
    std::vector<std::byte> expected(values.size() * 2);
    NarrowFromFloat(DType::kBF16, values.data(), kRows * kColumns, expected.data());
    const PlanRow row = RowOf({scheme}, ScaleRule::kImportance);
    EXPECT_TRUE(Encode(Format::kDense, row, &importance)[0] == expected) << NameOf(scheme);
  }
}

// A channel that is scaled by f comes in at 1 / f: its mean square at 1 / f^2.
TEST(SlabEncoderTest, AnEqualizedLayerIsWeighedAsTheScaledOneByItself) {
  InputStatistics before{.tokens = 5};
  for (uint64_t i = 0; i < kColumns; ++i) {
    before.mean_squares.push_back(std::ldexp(1.0F, static_cast<int>(MixBits(i) % 25) - 12));
  }
  const Importance importance = {{kName, std::make_shared<InputStatistics>(before)}};
  for (const Kind& kind : kGroups) {
    PlanRow equalized = RowOf(kind, ScaleRule::kImportance);
    equalized.equalized = Equalized::kLayer;
    const std::vector<float> factors = FactorsOf(equalized, &importance);
    for (const float factor : {0.25F, 0.5F, 1.0F, 2.0F, 4.0F}) {
      ASSERT_THAT(factors, ::testing::Contains(factor));
    }

    InputStatistics after = before;
    for (size_t i = 0; i < factors.size(); ++i) {
      after.mean_squares[i] = before.mean_squares[i] / factors[i] / factors[i];
    }
    std::vector<std::byte> scaled = Weights();
    ScaleColumns(DType::kBF16, factors, kRows, scaled.data());
    const Importance measured_after = {{kName, std::make_shared<InputStatistics>(after)}};
    const PlanRow plain = RowOf(kind, ScaleRule::kImportance);
    EXPECT_THAT(ImportanceOf(equalized, &importance), ElementsAreArray(ErrorWeights(after)));
    const Bytes expected = Encode(Format::kCompressedTensors, plain, &measured_after, scaled);
    EXPECT_TRUE(Encode(Format::kCompressedTensors, equalized, &importance, scaled) == expected);
    EXPECT_FALSE(Encode(Format::kCompressedTensors, plain, &importance, scaled)[0] == expected[0])
        << "the factors do not matter here: " << NameOf(kind);
  }
}

TEST(SlabEncoderTest, RulesWithoutImportance) {
  const std::vector<float> known = {1};
  for (const bool asymmetric : {false, true}) {
    PlanRow row;
    row.asymmetric = asymmetric;
    for (const ScaleRule rule : {ScaleRule::kSigned, ScaleRule::kMinMax, ScaleRule::kMse}) {
      row.scale = rule;
      EXPECT_EQ(RuleOf(row, {}), rule);
      EXPECT_EQ(RuleOf(row, known), rule);
    }
    row.scale = ScaleRule::kImportance;
    EXPECT_EQ(RuleOf(row, known), ScaleRule::kImportance);
    EXPECT_EQ(RuleOf(row, {}), asymmetric ? ScaleRule::kMinMax : ScaleRule::kSigned);
  }
}

// A row of GGUF that is not quantized has no errors to weigh.
TEST(SlabEncoderTest, BlocksOfWhatIsNotQuantizedAreNotWeighed) {
  PlanRow row = GgufRowOf(Scheme::kQ8_0, ScaleRule::kMse);
  EXPECT_THAT(BlockImportance(row, nullptr), Each(1.0F));
  row.quantized = false;
  EXPECT_THAT(BlockImportance(row, nullptr), IsEmpty());
}

// Of each expert what came to it, and of one that no token reached nothing.
TEST(SlabEncoderTest, ExpertsAreWeighedEachByItsOwn) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "model", {.layers = 1, .experts = 3});
  const auto checkpoint = Checkpoint::Open(storage, "model");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string lacking = "model.layers.0.block_sparse_moe.experts.2.w2.weight";
  Importance importance;
  uint64_t seed = 0;
  for (const StoredTensor& tensor : checkpoint->tensors()) {
    if (tensor.info.shape.size() != 2 || tensor.info.name == lacking) continue;
    InputStatistics statistics = Statistics(++seed);
    statistics.mean_squares.resize(static_cast<size_t>(tensor.info.shape[1]));
    importance[tensor.info.name] = std::make_shared<InputStatistics>(statistics);
  }
  for (const bool asymmetric : {false, true}) {
    const auto plan = MakePlan(*checkpoint, {.asymmetric = asymmetric}, {}, &importance);
    ASSERT_TRUE(plan.ok()) << plan.status();
    int experts = 0;
    for (const PlanRow& row : plan->rows) {
      const std::string& name = row.source.info.name;
      if (!row.quantized) continue;
      experts += name.find(".experts.") != std::string::npos ? 1 : 0;
      if (name == lacking) {
        EXPECT_EQ(row.scale, ScaleRule::kSigned);
        EXPECT_THAT(ImportanceOf(row, &importance), IsEmpty());
        continue;
      }
      EXPECT_EQ(row.scale, ScaleRule::kImportance) << name;
      EXPECT_THAT(ImportanceOf(row, &importance), ElementsAreArray(ErrorWeights(*importance[name])))
          << name;
    }
    EXPECT_EQ(experts, asymmetric ? 0 : 9) << "no consumer reads experts with zero points";
  }
}

}  // namespace
}  // namespace linchpin
