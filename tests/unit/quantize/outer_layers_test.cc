#include "quantize/outer_layers.h"

#include <string>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char kEmbedding[] = "model.embed_tokens.weight";
const char kHead[] = "lm_head.weight";

// An output head in place of a layer's output projection.
TinyCheckpoint WithHead() {
  TinyCheckpoint tiny{.layers = 1};
  tiny.edit = [](TensorFixture& tensor) {
    if (tensor.info.name == "model.layers.0.self_attn.o_proj.weight") tensor.info.name = kHead;
  };
  return tiny;
}

absl::StatusOr<Plan> PlanOf(const TinyCheckpoint& tiny, const QuantizeOptions& options,
                            bool tied = true) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "model", tiny);
  ASSIGN_OR_RETURN(std::string config, ReadText(storage, "model/config.json", 1 << 16));
  const std::string key = "\"tie_word_embeddings\": ";
  if (!tied) config.replace(config.find(key), key.size() + 4, key + "false");
  storage.Put("model/config.json", ToBytes(config));
  const auto checkpoint = Checkpoint::Open(storage, "model");
  RETURN_IF_ERROR(checkpoint.status());
  return MakePlan(*checkpoint, options, {});
}

absl::StatusOr<Plan> PlanOfUntied(const QuantizeOptions& options) {
  return PlanOf(WithHead(), options, /*tied=*/false);
}

// What becomes of a tensor.
std::string LineOf(const Plan& plan, std::string_view name) {
  for (const PlanRow& row : plan.rows) {
    if (row.source.info.name != name) continue;
    if (!row.quantized) return row.kept_because;
    std::string line =
        fmt::format("{} {} {}:", NameOf(row.scheme), row.group_size, NameOf(row.scale));
    for (const TensorInfo& output : row.outputs) {
      line += fmt::format(" {} {}", NameOf(output.dtype), ShapeText(output.shape));
    }
    return line;
  }
  return "no such row";
}

TEST(OuterLayersTest, StayUnlessAskedFor) {
  const auto plan = PlanOfUntied({});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(LineOf(*plan, kEmbedding), "embedding");
  EXPECT_EQ(LineOf(*plan, kHead), "output head");
  EXPECT_THAT(plan->outer, IsEmpty());
}

// The table of what each scheme makes of them.
TEST(OuterLayersTest, BecomeWhatStandsBesideTheScheme) {
  const std::pair<QuantizeOptions, std::string> cases[] = {
      {{.scheme = Scheme::kW8A16, .group_size = 32},
       "w8a16 64 signed: I32 [24, 16] BF16 [24, 1] I64 [2]"},
      {{.scheme = Scheme::kW8A16, .scale = ScaleRule::kMinMax},
       "w8a16 64 minmax: I32 [24, 16] BF16 [24, 1] I64 [2]"},
      {{.scheme = Scheme::kW8A16, .scale = ScaleRule::kMse},
       "w8a16 64 mse: I32 [24, 16] BF16 [24, 1] I64 [2]"},
      {{.scheme = Scheme::kW8A8}, "w8a8 64 signed: I8 [24, 64] BF16 [24, 1]"},
      {{.scheme = Scheme::kFp8}, "fp8 64 signed: F8_E4M3 [24, 64] BF16 [24, 1]"},
      {{.format = Format::kDense, .scheme = Scheme::kQ4_0}, "q8_0 64 minmax: BF16 [24, 64]"},
      {{.format = Format::kDense}, "w8a16 64 signed: BF16 [24, 64]"},
      {{.format = Format::kDense, .scheme = Scheme::kBlocks}, "w8a16 64 signed: BF16 [24, 64]"},
  };
  for (auto [options, line] : cases) {
    options.embeddings = 8;
    const auto plan = PlanOfUntied(options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(LineOf(*plan, kEmbedding), line);
    EXPECT_EQ(LineOf(*plan, kHead), "output head");
  }
}

TEST(OuterLayersTest, EachIsAskedForByItself) {
  const auto plan = PlanOfUntied({.lm_head = 8});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(LineOf(*plan, kEmbedding), "embedding");
  EXPECT_THAT(LineOf(*plan, kHead), HasSubstr("w8a16 64 signed"));
  ASSERT_EQ(plan->outer.size(), 1U);
  EXPECT_EQ(plan->outer[0].module, "lm_head");
  EXPECT_FALSE(plan->outer[0].looked_up);
  EXPECT_THAT(plan->ignored_modules, IsEmpty());
  EXPECT_THAT(plan->notes, ElementsAre(HasSubstr("an output head in 8 bits needs vLLM")));
}

TEST(OuterLayersTest, OneTensorForBothIsQuantizedByEitherOption) {
  for (const QuantizeOptions& options :
       {QuantizeOptions{.scheme = Scheme::kW8A16, .embeddings = 8},
        QuantizeOptions{.scheme = Scheme::kW8A16, .lm_head = 8},
        QuantizeOptions{.scheme = Scheme::kW8A16, .embeddings = 8, .lm_head = 8}}) {
    const auto plan = PlanOf({.layers = 1}, options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_THAT(LineOf(*plan, kEmbedding), HasSubstr("w8a16 64 signed"));
    ASSERT_EQ(plan->outer.size(), 1U);
    EXPECT_EQ(plan->outer[0].module, "model.embed_tokens");
    EXPECT_TRUE(plan->outer[0].looked_up);
    EXPECT_THAT(plan->ignored_modules, ElementsAre("lm_head"));
    EXPECT_THAT(plan->notes, ElementsAre(HasSubstr("one tensor, which is quantized for both"),
                                         HasSubstr("dequantize=True")));
  }
}

TEST(OuterLayersTest, ATiedHeadThatIsStoredStandsForTheEmbedding) {
  TinyCheckpoint tiny{.layers = 1, .metadata = {{kEmbedding, kHead}}};
  tiny.edit = [](TensorFixture& tensor) {
    if (tensor.info.name == kEmbedding) tensor.info.name = kHead;
  };
  const auto plan = PlanOf(tiny, {.scheme = Scheme::kW8A16, .embeddings = 8});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(LineOf(*plan, kHead), HasSubstr("w8a16 64 signed"));
  EXPECT_EQ(plan->outer[0].module, "model.embed_tokens");
  EXPECT_THAT(plan->ignored_modules, ElementsAre("lm_head"));
}

TEST(OuterLayersTest, AHeadThatIsStoredThoughItIsTiedIsLeftAlone) {
  const auto plan = PlanOf(WithHead(), {.scheme = Scheme::kW8A16, .lm_head = 8});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(LineOf(*plan, kEmbedding), HasSubstr("w8a16 64 signed"));
  EXPECT_EQ(LineOf(*plan, kHead), "output head");
}

TEST(OuterLayersTest, TheGroupOfTheBlocksIsNoneOfTheirs) {
  // 24 rows of 64: the blocks' own group is 32 all the same.
  const auto plan = PlanOf({.layers = 1}, {.scheme = Scheme::kW8A16, .embeddings = 8});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->group_size, 32);
}

TEST(OuterLayersTest, WhatIsIgnoredStays) {
  const auto plan = PlanOf({.layers = 1}, {.ignore = {"*embed_tokens"}, .embeddings = 8});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(LineOf(*plan, kEmbedding), "embedding");
  EXPECT_THAT(plan->outer, IsEmpty());
}

TEST(OuterLayersTest, RowsThatDoNotPackAreRefused) {
  TinyCheckpoint tiny{.layers = 1};
  tiny.edit = [](TensorFixture& tensor) {
    if (tensor.info.name == kEmbedding) tensor.info.shape = {128, 12};
  };
  const absl::Status status = PlanOf(tiny, {.scheme = Scheme::kW8A8, .embeddings = 8}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("embeddings: model.embed_tokens.weight: row length not a multiple of 8"));
}

// transformers reads them only unpacked, and then all layers by one scheme.
TEST(OuterLayersTest, EightBitsBesideFourAreRefusedWhereConsumersMisreadThem) {
  const std::pair<bool, QuantizeOptions> cases[] = {
      {false, {.embeddings = 8}},
      {true, {.lm_head = 8}},
      {false, {.asymmetric = true, .lm_head = 8}},
  };
  for (auto [tied, options] : cases) {
    const TinyCheckpoint tiny = tied ? TinyCheckpoint{.layers = 1} : WithHead();
    const absl::Status status = PlanOf(tiny, options, tied).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
    EXPECT_THAT(std::string(status.message()), HasSubstr("8 bits beside w4a16: transformers"));
    options.format = Format::kDense;
    EXPECT_TRUE(PlanOf(tiny, options, tied).ok());
  }
}

TEST(OuterLayersTest, OtherBitsAreRefused) {
  for (const QuantizeOptions& options :
       {QuantizeOptions{.embeddings = 4}, QuantizeOptions{.lm_head = 16}}) {
    const absl::Status status = PlanOf({.layers = 1}, options).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
    EXPECT_THAT(std::string(status.message()), HasSubstr("bits are not built: give 8"));
  }
}

}  // namespace
}  // namespace linchpin
