#include "quantize/gguf_plan.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

constexpr const char* kDown = "model.layers.0.mlp.down_proj.weight";
constexpr const char* kUp = "model.layers.0.mlp.up_proj.weight";

class GgufPlanTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(TinyGgufTensors()); }

  void Open(const std::vector<GgufFixture>& tensors) {
    storage_.Put("m.gguf", ToBytes(GgufFile(TinyGgufPairs(), tensors)));
    auto checkpoint = Checkpoint::Open(storage_, "m.gguf");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_.emplace(*std::move(checkpoint));
    auto pattern = GgufTemplate::Open(*checkpoint_);
    ASSERT_TRUE(pattern.ok()) << pattern.status();
    pattern_.emplace(*std::move(pattern));
  }

  absl::StatusOr<Plan> MakePlanOf(Scheme scheme, Preserve preserve = Preserve::kTensor,
                                  const std::vector<PinnedWeight>& super_weights = {}) {
    QuantizeOptions options;
    options.format = Format::kGguf;
    options.scheme = scheme;
    options.preserve = preserve;
    return MakePlan(*checkpoint_, options, super_weights, nullptr, &*pattern_);
  }

  static std::map<std::string, std::string> TypesOf(const Plan& plan) {
    std::map<std::string, std::string> types;
    for (const PlanRow& row : plan.rows) {
      types[row.source.info.name] = std::string(row.gguf->type->name);
    }
    return types;
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<GgufTemplate> pattern_;
};

TEST_F(GgufPlanTest, EveryTensorHasATypeThatItsRowsTake) {
  const auto plan = MakePlanOf(Scheme::kQ4_0);
  ASSERT_TRUE(plan.ok()) << plan.status();
  auto types = TypesOf(*plan);
  EXPECT_EQ(types[kDown], "Q4_0") << "rows of 32";
  EXPECT_EQ(types[kUp], "F16") << "rows of 8 are no whole block";
  EXPECT_EQ(types["model.norm.weight"], "F32");
  EXPECT_EQ(types["model.embed_tokens.weight"], "F16") << "Q8_0 gives way, too";
  ASSERT_EQ(plan->rows.size(), pattern_->slots().size());
  for (size_t i = 0; i < plan->rows.size(); ++i) {
    EXPECT_EQ(plan->rows[i].outputs[0].name, pattern_->slots()[i].parts[0].info.name);
  }
  ASSERT_EQ(plan->notes.size(), 1U);
  EXPECT_THAT(plan->notes[0], HasSubstr("rows of 8 elements"));
}

TEST_F(GgufPlanTest, KTypesGiveWayAsInLlamaCpp) {
  for (const auto& [scheme, type] :
       {std::pair(Scheme::kQ4_K, "Q5_0"), std::pair(Scheme::kQ5_K, "Q5_1"),
        std::pair(Scheme::kQ6_K, "Q8_0"), std::pair(Scheme::kBF16, "BF16")}) {
    const auto plan = MakePlanOf(scheme);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(TypesOf(*plan)[kDown], type);
  }
}

// Whatever is asked for and known of the inputs; the manifest names it so.
TEST_F(GgufPlanTest, WhatIsRoundedInOneWayOnlyHasThatRule) {
  for (const auto& [scheme, rule] :
       {std::pair(Scheme::kQ4_0, ScaleRule::kImportance),
        std::pair(Scheme::kQ4_K, ScaleRule::kImportance),
        std::pair(Scheme::kQ6_K, ScaleRule::kMinMax), std::pair(Scheme::kQ8_0, ScaleRule::kMinMax),
        std::pair(Scheme::kF16, ScaleRule::kMinMax)}) {
    const auto plan = MakePlanOf(scheme);
    ASSERT_TRUE(plan.ok()) << plan.status();
    for (const PlanRow& row : plan->rows) {
      if (row.source.info.name == kDown) {
        EXPECT_EQ(row.scale, rule) << row.gguf->type->name;
      }
      if (row.source.info.name == "model.embed_tokens.weight") {
        EXPECT_EQ(row.scale, ScaleRule::kMinMax) << "nothing is measured of it";
      }
    }
  }
}

TEST_F(GgufPlanTest, SchemesOfCompressedTensorsMeanTheNearestType) {
  for (const auto& [scheme, type] :
       {std::pair(Scheme::kW4A16, "Q5_0"), std::pair(Scheme::kW8A16, "Q8_0")}) {
    const auto plan = MakePlanOf(scheme);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(TypesOf(*plan)[kDown], type);
  }
  const auto refused = MakePlanOf(Scheme::kW8A8);
  EXPECT_EQ(ReasonOf(refused.status()), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("q4_k"));
}

TEST_F(GgufPlanTest, AnEmbeddingOf8BitsMayStandBesideHalfPrecision) {
  auto tensors = TinyGgufTensors();
  // Rows of 32, the least that Q8_0 takes.
  for (GgufFixture& tensor : tensors) {
    if (tensor.name != "token_embd.weight") continue;
    tensor = MakeGgufTensor(tensor.name, {5, 32}, std::vector<float>(5 * 32, 1.0F));
  }
  Open(tensors);
  QuantizeOptions options{.format = Format::kGguf, .scheme = Scheme::kF16};
  const auto off = MakePlan(*checkpoint_, options, {}, nullptr, &*pattern_);
  ASSERT_TRUE(off.ok()) << off.status();
  EXPECT_EQ(TypesOf(*off)["model.embed_tokens.weight"], "F16");
  options.embeddings = 8;
  const auto on = MakePlan(*checkpoint_, options, {}, nullptr, &*pattern_);
  ASSERT_TRUE(on.ok()) << on.status();
  EXPECT_EQ(TypesOf(*on)["model.embed_tokens.weight"], "Q8_0");
  EXPECT_EQ(TypesOf(*on)[kDown], "F16");
}

TEST_F(GgufPlanTest, ASuperWeightsTensorStaysAsItLies) {
  const auto plan = MakePlanOf(Scheme::kQ4_0, Preserve::kTensor, {{{kDown, 3, 5}, 1}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(TypesOf(*plan)[kDown], "F32");
  const auto loose = MakePlanOf(Scheme::kQ4_0, Preserve::kNone, {{{kDown, 3, 5}, 1}});
  ASSERT_TRUE(loose.ok()) << loose.status();
  EXPECT_EQ(TypesOf(*loose)[kDown], "Q4_0");
}

TEST_F(GgufPlanTest, AnAdapterLeavesTheSuperWeightOut) {
  const auto plan = MakePlanOf(Scheme::kQ4_0, Preserve::kLora, {{{kDown, 3, 5}, 1}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const PlanRow& row : plan->rows) {
    EXPECT_EQ(row.held_out.size(), row.source.info.name == kDown ? 1U : 0U);
  }
}

TEST_F(GgufPlanTest, RowsOfAGgufSourceKeepTheirOrder) {
  const auto plan = MakePlanOf(Scheme::kF16);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const PlanRow& row : plan->rows) {
    EXPECT_EQ(row.gguf->heads, 0) << row.source.info.name;
    EXPECT_FALSE(row.source.encoding.has_value()) << row.source.info.name;
  }
}

TEST_F(GgufPlanTest, SizesAreThoseOfTheBlocks) {
  const auto plan = MakePlanOf(Scheme::kQ4_0);
  ASSERT_TRUE(plan.ok());
  for (const PlanRow& row : plan->rows) {
    if (row.source.info.name != kDown) continue;
    EXPECT_EQ(row.bytes_in(), 8U * 32 * 4);
    EXPECT_EQ(row.bytes_out(), 8U * 18);
  }
}

TEST_F(GgufPlanTest, WithoutAPatternItIsRefusedWithTheReason) {
  QuantizeOptions options;
  options.format = Format::kGguf;
  const auto plan = MakePlan(*checkpoint_, options, {});
  EXPECT_EQ(ReasonOf(plan.status()), Reason::kFeatureUnsupported);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("donor"));
}

TEST_F(GgufPlanTest, SchemesAndWaysToPreserveThatAFormatDoesNotHaveAreRefused) {
  for (const Preserve preserve : {Preserve::kScale, Preserve::kRestore}) {
    const auto plan = MakePlanOf(Scheme::kQ4_0, preserve);
    EXPECT_EQ(ReasonOf(plan.status()), Reason::kOptionInvalid) << NameOf(preserve);
  }
  QuantizeOptions options;
  options.scheme = Scheme::kQ4_0;
  EXPECT_EQ(ReasonOf(CheckOptions(options)), Reason::kOptionInvalid);
  options.scheme = Scheme::kBlocks;
  EXPECT_EQ(ReasonOf(CheckOptions(options)), Reason::kOptionInvalid);
  options.format = Format::kDense;
  EXPECT_TRUE(CheckOptions(options).ok());
  options.blocks.bits = 9;
  EXPECT_EQ(ReasonOf(CheckOptions(options)), Reason::kOptionInvalid);
}

}  // namespace
}  // namespace linchpin
