#include "quantize/plan.h"

#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quantize/packed_tensors.h"
#include "tests/support/gguf_file.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char kDown0[] = "model.layers.0.mlp.down_proj.weight";
const char kDown1[] = "model.layers.1.mlp.down_proj.weight";

// A checkpoint in memory, opened.
struct Opened {
  explicit Opened(const TinyCheckpoint& tiny = {}) : checkpoint(Open(tiny)) {}

  absl::StatusOr<Checkpoint> Open(const TinyCheckpoint& tiny) {
    PutTinyCheckpoint(storage, "model", tiny);
    return Checkpoint::Open(storage, "model");
  }
  absl::StatusOr<Plan> Make(const QuantizeOptions& options,
                            const std::vector<PinnedWeight>& super_weights = {}) const {
    RETURN_IF_ERROR(checkpoint.status());
    return MakePlan(*checkpoint, options, super_weights);
  }

  MemoryStorage storage;
  absl::StatusOr<Checkpoint> checkpoint;
};

// One line per row: what it is, what becomes of it.
std::string PlanTable(const Plan& plan) {
  std::string table;
  for (const PlanRow& row : plan.rows) {
    table += fmt::format("{} {} {}:", row.source.info.name, ShapeText(row.source.info.shape),
                         row.quantized ? fmt::format("group {}", row.group_size)
                                       : fmt::format("kept ({})", row.kept_because));
    for (const TensorInfo& output : row.outputs) {
      const size_t dot = output.name.rfind('.');
      table += fmt::format(" {} {} {}", output.name.substr(dot + 1), NameOf(output.dtype),
                           ShapeText(output.shape));
    }
    table += "\n";
  }
  return table;
}

const PlanRow& RowOf(const Plan& plan, std::string_view name) {
  for (const PlanRow& row : plan.rows) {
    if (row.source.info.name == name) return row;
  }
  ADD_FAILURE() << "no row " << name;
  return plan.rows.front();
}

TEST(PlanTest, IsATableOfEveryTensor) {
  const Opened model({.layers = 1});
  const absl::StatusOr<Plan> plan = model.Make({}, {{{kDown0, 3, 77}, 0.5F}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(PlanTable(*plan),
            R"(model.embed_tokens.weight [24, 64] kept (embedding): weight BF16 [24, 64]
model.layers.0.input_layernorm.weight [64] kept (norm): weight BF16 [64]
model.layers.0.self_attn.q_proj.weight [64, 64] group 32: weight_packed I32 [64, 8] weight_scale BF16 [64, 2] weight_shape I64 [2]
model.layers.0.self_attn.k_proj.weight [32, 64] group 32: weight_packed I32 [32, 8] weight_scale BF16 [32, 2] weight_shape I64 [2]
model.layers.0.self_attn.v_proj.weight [32, 64] group 32: weight_packed I32 [32, 8] weight_scale BF16 [32, 2] weight_shape I64 [2]
model.layers.0.self_attn.o_proj.weight [64, 64] group 32: weight_packed I32 [64, 8] weight_scale BF16 [64, 2] weight_shape I64 [2]
model.layers.0.post_attention_layernorm.weight [64] kept (norm): weight BF16 [64]
model.layers.0.mlp.gate_proj.weight [160, 64] group 32: weight_packed I32 [160, 8] weight_scale BF16 [160, 2] weight_shape I64 [2]
model.layers.0.mlp.up_proj.weight [160, 64] group 32: weight_packed I32 [160, 8] weight_scale BF16 [160, 2] weight_shape I64 [2]
model.layers.0.mlp.down_proj.weight [64, 160] kept (super weight): weight BF16 [64, 160]
model.norm.weight [64] kept (norm): weight BF16 [64]
)");
  EXPECT_THAT(plan->ignored_modules, ElementsAre("lm_head", "model.layers.0.mlp.down_proj"));
  EXPECT_EQ(plan->group_size, 32);
  EXPECT_EQ(plan->options.group_size, 0) << "as asked for";
}

TEST(PlanTest, BytesFollowFromTheRows) {
  const Opened model({.layers = 1});
  const absl::StatusOr<Plan> plan = model.Make({.preserve = Preserve::kNone});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->bytes_in(), model.checkpoint->total_bytes());
  const PlanRow& down = RowOf(*plan, kDown0);
  EXPECT_EQ(down.bytes_in(), 64U * 160 * 2);
  EXPECT_EQ(down.bytes_out(), 64U * 160 / 2 + 64 * 5 * 2 + 16);
  uint64_t sum = 0;
  for (const PlanRow& row : plan->rows) sum += row.bytes_out();
  EXPECT_EQ(plan->bytes_out(), sum);
}

TEST(PlanTest, AutoTakesTheLargestGroupThatDividesEveryRow) {
  const std::pair<int64_t, int64_t> cases[] = {{256, 128}, {192, 64}, {160, 32}, {40, -1}};
  for (const auto& [intermediate, group] : cases) {
    const Opened model({.hidden = 128, .intermediate = intermediate});
    const absl::StatusOr<Plan> plan = model.Make({});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->group_size, group);
    EXPECT_EQ(RowOf(*plan, kDown0).group_size, group == -1 ? intermediate : group);
  }
}

TEST(PlanTest, PerChannelHasOneScalePerRow) {
  const absl::StatusOr<Plan> plan = Opened().Make({.group_size = -1});
  ASSERT_TRUE(plan.ok());
  const PlanRow& down = RowOf(*plan, kDown0);
  EXPECT_EQ(down.group_size, 160);
  EXPECT_THAT(down.outputs[1].shape, ElementsAre(64, 1));
}

TEST(PlanTest, TheGroupDoesNotDependOnTheSuperWeights) {
  const Opened model({.hidden = 128, .intermediate = 192, .layers = 1});
  const absl::StatusOr<Plan> plan = model.Make({}, {{{kDown0, 0, 0}, 1.0F}});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->group_size, 64) << "though only rows of 128 are left";
}

TEST(PlanTest, AGivenGroupMustDivideEveryRow) {
  const Opened model({.hidden = 128, .intermediate = 192});
  const absl::Status status = model.Make({.group_size = 128}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.layers.0.mlp.down_proj.weight: group size 128 does not divide its "
                        "rows of 192: use group size auto"));
  EXPECT_EQ(ReasonOf(model.Make({.group_size = 48}).status()), Reason::kOptionInvalid);
}

TEST(PlanTest, RowsThatDoNotPackAreKeptAndIgnored) {
  const Opened model({.intermediate = 172, .layers = 1});
  const absl::StatusOr<Plan> plan = model.Make({});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(RowOf(*plan, kDown0).kept_because, "row length not a multiple of 8");
  EXPECT_THAT(plan->ignored_modules, ElementsAre("lm_head", "model.layers.0.mlp.down_proj"));
  EXPECT_EQ(plan->group_size, 64);
}

TEST(PlanTest, OtherTensorsAreKeptForAReason) {
  const std::map<std::string, std::string> reasons = {
      {"lm_head.weight", "output head"},
      {"model.layers.0.self_attn.extra.weight", "not a linear layer"},
      {"model.vision_tower.layers.0.mlp.up_proj.weight", "not of the text model"},
      {"multi_modal_projector.layers.0.up_proj.weight", "not of the text model"},
      {"transformer.xlayers.0.up_proj.weight", "not a linear layer"},
      {"model.layers.9.mlp.up_proj.weight", "not a linear layer"},  // beyond the config's layers
  };
  for (const auto& [name, reason] : reasons) {
    TinyCheckpoint tiny{.layers = 1};
    tiny.edit = [&name = name](TensorFixture& tensor) {
      if (tensor.info.name == "model.layers.0.self_attn.o_proj.weight") tensor.info.name = name;
    };
    const absl::StatusOr<Plan> plan = Opened(tiny).Make({});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(RowOf(*plan, name).kept_because, reason) << name;
    EXPECT_FALSE(RowOf(*plan, name).quantized) << name;
  }
}

TEST(PlanTest, LinearLayersThatStayAreIgnoredByName) {
  TinyCheckpoint tiny{.layers = 1};
  tiny.edit = [](TensorFixture& tensor) {
    if (tensor.info.name == kDown0) tensor.info.name = "model.layers.0.router.weight";
  };
  const absl::StatusOr<Plan> plan = Opened(tiny).Make({});
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->ignored_modules, ElementsAre("lm_head", "model.layers.0.router"));
}

TEST(PlanTest, PatternsChooseWhatIsQuantized) {
  const absl::StatusOr<Plan> ignored = Opened().Make({.ignore = {"*.layers.0.mlp.down_proj"}});
  ASSERT_TRUE(ignored.ok()) << ignored.status();
  EXPECT_EQ(RowOf(*ignored, kDown0).kept_because, "ignored as asked");
  EXPECT_TRUE(RowOf(*ignored, kDown1).quantized);
  EXPECT_THAT(ignored->ignored_modules, ElementsAre("lm_head", "model.layers.0.mlp.down_proj"));

  const absl::StatusOr<Plan> included = Opened().Make({.include = {"model.layers.1.*"}});
  ASSERT_TRUE(included.ok()) << included.status();
  EXPECT_EQ(RowOf(*included, kDown0).kept_because, "not included");
  EXPECT_TRUE(RowOf(*included, kDown1).quantized);
}

TEST(PlanTest, APatternThatMatchesNothingIsRefused) {
  for (const QuantizeOptions& options :
       {QuantizeOptions{.ignore = {"*.donw_proj"}}, QuantizeOptions{.include = {"layers.0"}}}) {
    const absl::Status status = Opened().Make(options).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
    EXPECT_THAT(std::string(status.message()), HasSubstr("matches no tensor of the checkpoint"));
  }
}

// vLLM and transformers load q, k, v as one, and gate and up.
TEST(PlanTest, LayersThatAreFusedStayTogether) {
  const absl::StatusOr<Plan> plan =
      Opened({.layers = 1}).Make({.ignore = {"*.k_proj", "*.gate_proj"}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(RowOf(*plan, "model.layers.0.self_attn.q_proj.weight").kept_because,
            "used together with model.layers.0.self_attn.k_proj, which is kept");
  EXPECT_EQ(RowOf(*plan, "model.layers.0.mlp.up_proj.weight").kept_because,
            "used together with model.layers.0.mlp.gate_proj, which is kept");
  EXPECT_TRUE(RowOf(*plan, "model.layers.0.self_attn.o_proj.weight").quantized);
  EXPECT_TRUE(RowOf(*plan, kDown0).quantized);
}

TEST(PlanTest, EverySchemeHasItsOutputs) {
  const std::pair<QuantizeOptions, std::string> cases[] = {
      {{.scheme = Scheme::kW4A16, .asymmetric = true, .scale = ScaleRule::kMinMax},
       "weight_packed I32 [64, 20] weight_scale BF16 [64, 5] weight_zero_point I32 [8, 5] "
       "weight_shape I64 [2]"},
      {{.scheme = Scheme::kW8A16},
       "weight_packed I32 [64, 40] weight_scale BF16 [64, 5] weight_shape I64 [2]"},
      {{.scheme = Scheme::kW8A8}, "weight I8 [64, 160] weight_scale BF16 [64, 1]"},
      {{.scheme = Scheme::kFp8}, "weight F8_E4M3 [64, 160] weight_scale BF16 [64, 1]"},
  };
  for (const auto& [options, outputs] : cases) {
    const absl::StatusOr<Plan> plan = Opened().Make(options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_THAT(PlanTable(*plan), HasSubstr(outputs));
  }
}

TEST(PlanTest, RowsThatZeroPointsDoNotPackAreKept) {
  TinyCheckpoint tiny{.intermediate = 168, .layers = 1};  // 21 x 8, so all rows pack
  const absl::StatusOr<Plan> packs =
      Opened(tiny).Make({.group_size = -1, .asymmetric = true, .scale = ScaleRule::kMinMax});
  ASSERT_TRUE(packs.ok()) << packs.status();
  EXPECT_TRUE(RowOf(*packs, kDown0).quantized);
  const SchemeTraits& scheme = TraitsOf(Scheme::kW4A16);
  EXPECT_EQ(PackingObstacle(scheme, true, {12, 64}), "rows not a multiple of 8");
  EXPECT_EQ(PackingObstacle(scheme, false, {12, 64}), "");
  EXPECT_EQ(PackingObstacle(scheme, false, {12, 60}), "row length not a multiple of 8");
  EXPECT_EQ(PackingObstacle(scheme, false, {0, 64}), "no elements");
}

TEST(PlanTest, WhatNoTokenReachedFallsBackWithANote) {
  auto statistics = std::make_shared<InputStatistics>();
  statistics->mean_squares.assign(160, 1.0F);
  const Importance importance = {{kDown0, statistics}};
  const Opened model;
  const auto plan = MakePlan(*model.checkpoint, {.include = {"*.down_proj"}}, {}, &importance);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(RowOf(*plan, kDown0).scale, ScaleRule::kImportance);
  EXPECT_EQ(RowOf(*plan, kDown1).scale, ScaleRule::kSigned);
  EXPECT_THAT(plan->notes, ElementsAre(HasSubstr("1 weights have signed scales")));
  const auto before = model.Make({});
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(RowOf(*before, kDown1).scale, ScaleRule::kImportance) << "nothing is known yet";
}

TEST(PlanTest, AMatrixUnderTwoNamesIsKept) {
  const TinyCheckpoint tiny{
      .metadata = {{"model.layers.9.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"},
                   {"format", "pt"}}};
  const absl::StatusOr<Plan> plan = Opened(tiny).Make({});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(RowOf(*plan, "model.layers.0.mlp.up_proj.weight").kept_because,
            "shared under another name");
}

TEST(PlanTest, PruningKeepsSizesAndSparesByHoldingOut) {
  QuantizeOptions options{.format = Format::kDense, .scheme = Scheme::kPruned};
  options.preserve = Preserve::kRestore;
  const PinnedWeight super_weight{{kDown1, 3, 77}, 0.5F};
  const Opened model;
  const absl::StatusOr<Plan> plan = model.Make(options, {super_weight});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->bytes_out(), plan->bytes_in());
  EXPECT_THAT(RowOf(*plan, kDown1).held_out, ElementsAre(super_weight));
  EXPECT_EQ(RowOf(*plan, kDown1).group_size, 0) << "the whole tensor";
  options.preserve = Preserve::kNone;
  const absl::StatusOr<Plan> none = model.Make(options, {super_weight});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_TRUE(RowOf(*none, kDown1).quantized);
  EXPECT_THAT(RowOf(*none, kDown1).held_out, IsEmpty());
  EXPECT_FALSE(NeedsImportance(options)) << "nothing is weighed";
}

TEST(PlanTest, RowsThatAreNoFoursAreKept) {
  TinyCheckpoint tiny{.intermediate = 162, .layers = 1};
  const QuantizeOptions options{.format = Format::kDense, .scheme = Scheme::kPruned2Of4};
  const absl::StatusOr<Plan> plan = Opened(tiny).Make(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(RowOf(*plan, kDown0).kept_because, "row length not a multiple of 4");
  EXPECT_EQ(RowOf(*plan, "model.layers.0.mlp.up_proj.weight").group_size, 4);
}

TEST(PlanTest, PreserveNoneKeepsNothing) {
  const absl::StatusOr<Plan> plan =
      Opened().Make({.preserve = Preserve::kNone}, {{{kDown1, 3, 77}, 0.5F}});
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(RowOf(*plan, kDown1).quantized);
  EXPECT_THAT(RowOf(*plan, kDown1).pinned, IsEmpty());
  EXPECT_THAT(plan->ignored_modules, ElementsAre("lm_head"));
  EXPECT_EQ(plan->super_weights.size(), 1U) << "the manifest reports it all the same";
}

TEST(PlanTest, PreserveScalePinsWithinTheGroup) {
  const PinnedWeight first{{kDown1, 3, 31}, 0.5F};
  const PinnedWeight second{{kDown1, 3, 32}, 0.25F};
  const absl::StatusOr<Plan> plan = Opened().Make({.preserve = Preserve::kScale}, {first, second});
  ASSERT_TRUE(plan.ok());
  EXPECT_TRUE(RowOf(*plan, kDown1).quantized);
  EXPECT_THAT(RowOf(*plan, kDown1).pinned, ElementsAre(first, second));
  EXPECT_THAT(plan->notes, IsEmpty());
}

TEST(PlanTest, PreserveScaleFallsBackWithANote) {
  const std::vector<PinnedWeight> impossible[] = {
      {{{kDown1, 3, 33}, 0.5F}, {{kDown1, 3, 32}, 0.25F}},  // one group
      {{{kDown1, 3, 33}, 0.0F}},                            // no scale
      {{{kDown1, 3, 33}, 0.1F}},                            // not a number of the dtype
  };
  for (const std::vector<PinnedWeight>& weights : impossible) {
    const absl::StatusOr<Plan> plan = Opened().Make({.preserve = Preserve::kScale}, weights);
    ASSERT_TRUE(plan.ok());
    EXPECT_EQ(RowOf(*plan, kDown1).kept_because, "super weight");
    EXPECT_TRUE(RowOf(*plan, kDown0).quantized);
    ASSERT_EQ(plan->notes.size(), 1U);
    EXPECT_THAT(plan->notes[0], HasSubstr(kDown1));
    EXPECT_THAT(plan->notes[0], HasSubstr("the whole tensor is kept"));
  }
}

TEST(PlanTest, ASuperWeightMustBeInTheCheckpoint) {
  const Opened model;
  EXPECT_EQ(ReasonOf(model.Make({}, {{{"model.layers.7.mlp.down_proj.weight", 0, 0}, 1}}).status()),
            Reason::kTensorMissing);
  for (const auto& [row, column] :
       std::vector<std::pair<int64_t, int64_t>>{{64, 0}, {0, 160}, {-1, 0}, {0, -1}}) {
    EXPECT_EQ(ReasonOf(model.Make({}, {{{kDown1, row, column}, 1}}).status()),
              Reason::kTensorShapeInvalid);
  }
}

TEST(PlanTest, ANameThatTheSourceHasAlreadyIsRefused) {
  TinyCheckpoint tiny;
  tiny.edit = [](TensorFixture& tensor) {
    if (tensor.info.name == "model.norm.weight") {
      tensor.info.name = "model.layers.0.mlp.up_proj.weight_scale";
    }
  };
  const absl::Status status = Opened(tiny).Make({}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kTensorShapeInvalid);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.layers.0.mlp.up_proj.weight_scale: the source has"));
}

TEST(PlanTest, ModulesAreTensorsWithoutTheirLastPart) {
  EXPECT_EQ(ModuleOf("a.b.weight"), "a.b");
  EXPECT_EQ(ModuleOf("a.b.bias"), "a.b.bias");
}

TEST(PlanTest, WeightsOfAGgufFileBecomeThoseOfTheModel) {
  MemoryStorage storage;
  storage.Put("dir/m.gguf", ToBytes(GgufFile(TinyGgufPairs(), TinyGgufTensors())));
  const auto checkpoint = Checkpoint::Open(storage, "dir/m.gguf");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto plan = MakePlan(*checkpoint, {}, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->dtype, DType::kF32);
  for (const PlanRow& row : plan->rows) {
    EXPECT_EQ(row.quantized, row.source.info.name.ends_with("_proj.weight"))
        << row.source.info.name;
    EXPECT_EQ(row.read_dtype(), DType::kF32);
  }
}

TEST(PlanTest, ScalesOf8BitWeightsAreNoTensorsOfTheOutput) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "model");
  std::vector<TensorFixture> tensors;
  for (TensorFixture tensor : TinyTensors({})) {
    if (tensor.info.name.ends_with("down_proj.weight")) {
      const std::vector<int64_t> shape = tensor.info.shape;
      tensors.push_back(MakeTensor(tensor.info.name + "_scale", DType::kF32, {shape[0], 1},
                                   std::vector<float>(static_cast<size_t>(shape[0]), 0.5F)));
      tensor.info.dtype = DType::kF8E4M3;
      tensor.bytes.assign(static_cast<size_t>(shape[0] * shape[1]), '\x38');
    }
    tensors.push_back(std::move(tensor));
  }
  storage.Put("model/model.safetensors", ToBytes(SafetensorsFile(tensors)));
  const auto checkpoint = Checkpoint::Open(storage, "model");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const PinnedWeight super_weight{{"model.layers.1.mlp.down_proj.weight", 3, 5}, 0.5F};
  const auto plan = MakePlan(*checkpoint, {}, {{super_weight}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  int coded = 0;
  for (const PlanRow& row : plan->rows) {
    EXPECT_FALSE(row.source.info.name.ends_with("_scale")) << row.source.info.name;
    if (!row.source.scales) continue;
    ++coded;
    EXPECT_EQ(row.read_dtype(), DType::kF32);
    const bool kept = row.source.info.name == super_weight.position.tensor;
    EXPECT_EQ(row.quantized, !kept);
    EXPECT_EQ(row.dtype, kept ? DType::kF32 : DType::kBF16) << "a kept one loses no bit";
  }
  EXPECT_EQ(coded, 2);
}

}  // namespace
}  // namespace linchpin
