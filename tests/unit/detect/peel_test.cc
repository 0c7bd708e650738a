// Detection on planted models: every planted weight, nothing else.
#include "detect/peel.h"

#include <set>
#include <string>

#include "detect/prompt.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

std::set<WeightPosition> Found(const Detection& detection) {
  std::set<WeightPosition> positions;
  for (const SuperWeight& weight : detection.super_weights) positions.insert(weight.position);
  return positions;
}

WeightPosition PositionOf(const OracleModel& model, const Json& planted) {
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  EXPECT_TRUE(pass.ok()) << pass.status();
  const int expert = planted.value("expert", kNoExpert);
  return {pass->DownProj(planted["layer"], expert).weight.name, planted["row"], planted["column"]};
}

std::set<WeightPosition> Planted(const OracleModel& model) {
  std::set<WeightPosition> positions;
  for (const Json& planted : model.expected.value("planted", Json::array())) {
    positions.insert(PositionOf(model, planted));
  }
  return positions;
}

absl::StatusOr<Detection> PeelModel(const OracleModel& model, const std::vector<int32_t>& prompt) {
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  if (!pass.ok()) return pass.status();
  return Peel(*model.checkpoint, *pass, prompt, DetectOptions{}, RunContext{});
}

class PlantedTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    LINCHPIN_NEEDS_SHARED();
    model_ = OpenModel(SharedPath("oracles/" + GetParam()));
  }
  OracleModel model_;
};

TEST_P(PlantedTest, FoundWithTheDefaultPromptAndNothingElse) {
  const auto detection = PeelModel(model_, DefaultPrompt(model_.config));
  ASSERT_TRUE(detection.ok()) << detection.status();
  EXPECT_EQ(Found(*detection), Planted(model_));
}

TEST_P(PlantedTest, FoundWithTheOraclesPromptAndNothingElse) {
  const auto detection = PeelModel(model_, model_.token_ids());
  ASSERT_TRUE(detection.ok()) << detection.status();
  EXPECT_EQ(Found(*detection), Planted(model_));
}

TEST_P(PlantedTest, ValuesAreThoseOfTheCheckpoint) {
  const auto detection = PeelModel(model_, model_.token_ids());
  ASSERT_TRUE(detection.ok()) << detection.status();
  for (const Json& planted : model_.expected.value("planted", Json::array())) {
    const WeightPosition position = PositionOf(model_, planted);
    for (const SuperWeight& weight : detection->super_weights) {
      if (weight.position == position) {
        EXPECT_EQ(weight.value, planted["value"].get<float>());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PlantedTest,
    ::testing::Values("planted/00-llama-one", "planted/01-mistral-one", "planted/02-qwen2-one",
                      "planted/03-qwen3-siblings", "planted/04-phi3-six", "planted/05-olmo-stack",
                      "planted/06-llama3-siblings", "planted/07-gemma2-one", "planted/08-olmo2-one",
                      "planted/09-llama-tied-bias-columns", "planted/10-llama-decoy",
                      "planted/11-qwen3-moe-expert", "planted/12-qwen2-none", "families/falcon",
                      "families/gemma", "families/gemma2", "families/gemma3_text", "families/gpt2",
                      "families/gpt_neox", "families/llama", "families/llama3",
                      "families/llama_tied_bias", "families/mistral", "families/mixtral",
                      "families/olmo", "families/olmo2", "families/opt", "families/phi",
                      "families/phi3", "families/qwen2", "families/qwen2_moe", "families/qwen3",
                      "families/qwen3_moe"),
    [](const ::testing::TestParamInfo<std::string>& info) {
      std::string name = info.param;
      std::replace_if(
          name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
      return name;
    });

TEST(PeelTest, Stories260kHasNone) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("models/stories260k/hf-f32"));
  const auto detection = PeelModel(model, DefaultPrompt(model.config));
  ASSERT_TRUE(detection.ok()) << detection.status();
  EXPECT_TRUE(detection->super_weights.empty());
  EXPECT_TRUE(detection->super_activations.empty());
}

TEST(PeelTest, Tinystories656kHasItsPairAtTheFirstToken) {
  LINCHPIN_NEEDS_SHARED();
  for (const char* path : {"models/tinystories-656k", "models/tinystories-656k/bf16"}) {
    const OracleModel model = OpenModel(SharedPath(path));
    const auto detection = PeelModel(model, DefaultPrompt(model.config));
    ASSERT_TRUE(detection.ok()) << detection.status();
    ASSERT_EQ(detection->super_weights.size(), 1U);
    const SuperWeight& weight = detection->super_weights[0];
    EXPECT_EQ(weight.position, (WeightPosition{"model.layers.0.mlp.down_proj.weight", 88, 165}));
    EXPECT_EQ(weight.token, 0);
    EXPECT_EQ(weight.rank, 13);
    EXPECT_NEAR(weight.value, -2.859, 0.01);
    EXPECT_NEAR(weight.input, -43.7, 0.2);
    EXPECT_NEAR(weight.output, 352, 2);
  }
}

}  // namespace
}  // namespace linchpin
