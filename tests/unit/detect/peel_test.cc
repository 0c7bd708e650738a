// Detection on planted models: every planted weight, nothing else.
#include "detect/peel.h"

#include <set>
#include <string>

#include "detect/prompt.h"
#include "detect/proof.h"
#include "forward/layer_tensors.h"
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

std::set<WeightPosition> Planted(const Json& expected) {
  std::set<WeightPosition> positions;
  for (const Json& planted : expected.value("planted", Json::array())) {
    positions.insert({DownProjName(planted["layer"]), planted["row"], planted["column"]});
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
  EXPECT_EQ(Found(*detection), Planted(model_.expected));
}

TEST_P(PlantedTest, FoundWithTheOraclesPromptAndNothingElse) {
  const auto detection = PeelModel(model_, model_.token_ids());
  ASSERT_TRUE(detection.ok()) << detection.status();
  EXPECT_EQ(Found(*detection), Planted(model_.expected));
}

TEST_P(PlantedTest, ValuesAreThoseOfTheCheckpoint) {
  const auto detection = PeelModel(model_, model_.token_ids());
  ASSERT_TRUE(detection.ok()) << detection.status();
  for (const Json& planted : model_.expected.value("planted", Json::array())) {
    const WeightPosition position{DownProjName(planted["layer"]), planted["row"],
                                  planted["column"]};
    for (const SuperWeight& weight : detection->super_weights) {
      if (weight.position == position) {
        EXPECT_EQ(weight.value, planted["value"].get<float>());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Llama, PlantedTest,
                         ::testing::Values("planted/00-llama-one", "planted/06-llama3-siblings",
                                           "planted/09-llama-tied-bias-columns",
                                           "planted/10-llama-decoy", "families/llama",
                                           "families/llama_tied_bias", "families/llama3"),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           std::string name = info.param;
                           std::replace_if(
                               name.begin(), name.end(),
                               [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
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
    EXPECT_EQ(weight.position, (WeightPosition{DownProjName(0), 88, 165}));
    EXPECT_EQ(weight.token, 0);
    EXPECT_EQ(weight.rank, 13);
    EXPECT_NEAR(weight.value, -2.859, 0.01);
    EXPECT_NEAR(weight.input, -43.7, 0.2);
    EXPECT_NEAR(weight.output, 352, 2);
  }
}

}  // namespace
}  // namespace linchpin
