// A study against the values that transformers computed for planted models.
#include "detect/study_model.h"

#include <cmath>
#include <string>

#include "detect/outliers.h"
#include "detect/peel.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

class StudyTest : public ::testing::Test {
 protected:
  void SetUp() override { LINCHPIN_NEEDS_SHARED(); }

  const Study& StudyOf(const std::string& name) {
    model_ = OpenModel(SharedPath("oracles/planted/" + name));
    auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
    EXPECT_TRUE(pass.ok()) << pass.status();
    pass_ = std::make_unique<ForwardPass>(std::move(pass).value());
    auto found = Peel(*model_.checkpoint, *pass_, model_.token_ids(), {}, {});
    EXPECT_TRUE(found.ok()) << found.status();
    detection_ = std::move(found).value();
    const std::vector<TokenWindow> windows = {model_.token_ids()};
    const absl::Status status =
        StudyModel(*model_.checkpoint, *pass_, windows, {.threads = 2}, detection_);
    EXPECT_TRUE(status.ok()) << status;
    return *detection_.study;
  }

  OracleModel model_;
  std::unique_ptr<ForwardPass> pass_;
  Detection detection_;
};

void ExpectClose(double actual, double expected) {
  EXPECT_NEAR(actual, expected, 2e-3 * std::max(1e-2, std::fabs(expected)));
}

TEST_F(StudyTest, LayersHaveTheirMaximaWithAndWithout) {
  const Study& study = StudyOf("03-qwen3-siblings");
  const Json& expected = model_.expected;
  ASSERT_EQ(study.layers.size(), expected["residual"].size());
  for (size_t i = 0; i < study.layers.size(); ++i) {
    const StudyLayer& layer = study.layers[i];
    EXPECT_EQ(layer.layer, static_cast<int>(i));
    ExpectClose(layer.residual, expected["residual"][i]["value"]);
    ExpectClose(layer.residual_without, expected["zeroed"]["joint_residual"][i]["value"]);
    const std::string down = "model.layers." + std::to_string(i) + ".mlp.down_proj";
    ExpectClose(layer.down_proj_input, expected["down_proj"][down]["input"]["value"]);
    ExpectClose(layer.down_proj_output, expected["down_proj"][down]["output"]["value"]);
  }
  ASSERT_EQ(study.activations.size(), detection_.super_activations.size());
  for (size_t i = 0; i < study.activations.size(); ++i) {
    const SuperActivation& activation = detection_.super_activations[i];
    const auto onset = static_cast<size_t>(activation.onset_layer);
    EXPECT_EQ(study.activations[i].channel, activation.channel);
    ASSERT_EQ(study.activations[i].with.size(), study.layers.size());
    EXPECT_GT(std::fabs(study.activations[i].with[onset]),
              3 * std::fabs(study.activations[i].without[onset]));
  }
}

TEST_F(StudyTest, ScalesRunFromPrunedThroughUntouched) {
  const Study& study = StudyOf("03-qwen3-siblings");
  EXPECT_EQ(study.windows, 1);
  EXPECT_EQ(study.tokens, static_cast<int64_t>(model_.token_ids().size()) - 1);
  ASSERT_EQ(study.scales.size(), 9U);
  EXPECT_EQ(study.scales.front().scale, 0);
  EXPECT_EQ(study.scales.back().scale, 3);
  EXPECT_NEAR(study.scales.front().quality.loss, model_.expected["zeroed"]["joint_loss"], 0.01);
  for (const StudyScale& scale : study.scales) {
    const StudyQuality& quality = scale.quality;
    EXPECT_DOUBLE_EQ(quality.perplexity, std::exp(quality.loss));
    if (scale.scale != 1) {
      EXPECT_GT(quality.kl, 0) << scale.scale;
      continue;
    }
    EXPECT_NEAR(quality.loss, model_.expected["loss"], 0.01);
    EXPECT_EQ(quality.perplexity_ratio, 1);
    EXPECT_EQ(quality.kl, 0);
  }
}

TEST_F(StudyTest, RowsAreThoseOfTheFirstTable) {
  const Study& study = StudyOf("03-qwen3-siblings");
  ASSERT_EQ(study.rows.size(), 4U);
  EXPECT_EQ(study.rows[0].name, "original");
  EXPECT_EQ(study.rows[0].pruned, 0);
  EXPECT_NEAR(study.rows[0].quality.loss, model_.expected["loss"], 0.01);
  EXPECT_EQ(study.rows[1].name, "super_weights_pruned");
  EXPECT_EQ(study.rows[1].pruned, 3);
  EXPECT_EQ(study.rows[1].quality.loss, study.scales.front().quality.loss);
  EXPECT_EQ(study.rows[2].name, "other_outliers_pruned");
  EXPECT_LT(study.rows[2].quality.kl, study.rows[1].quality.kl);
  EXPECT_EQ(study.rows[3].name, "super_activations_restored");
  EXPECT_EQ(study.rows[3].pruned, 3);
  EXPECT_LT(study.rows[3].quality.kl, 0.1 * study.rows[1].quality.kl);
}

TEST_F(StudyTest, FrequentTokensComeFirstAndShift) {
  const Study& study = StudyOf("03-qwen3-siblings");
  ASSERT_FALSE(study.frequent.empty());
  EXPECT_LE(study.frequent.size(), 20U);
  int64_t before = model_.token_ids().size();
  bool shifted = false;
  for (const StudyToken& token : study.frequent) {
    EXPECT_LE(token.count, before);
    before = token.count;
    EXPECT_GT(token.probability, 0);
    EXPECT_LT(token.probability, 1);
    shifted = shifted ||
              std::fabs(token.probability_without - token.probability) > 0.01 * token.probability;
  }
  EXPECT_TRUE(shifted);
}

TEST_F(StudyTest, AModelWithoutSuperWeightsHasItsOutliersOnly) {
  const Study& study = StudyOf("12-qwen2-none");
  EXPECT_TRUE(study.scales.empty() && study.frequent.empty() && study.activations.empty());
  ASSERT_EQ(study.rows.size(), 2U);
  EXPECT_EQ(study.rows[0].name, "original");
  EXPECT_EQ(study.rows[1].name, "other_outliers_pruned");
  for (const StudyLayer& layer : study.layers) EXPECT_EQ(layer.residual, layer.residual_without);
}

// Against all weights of all down_projs, sorted; gpt2 stores them transposed.
TEST_F(StudyTest, OutliersAreTheLargestWeightsButTheSparedOnes) {
  for (const char* name : {"planted/11-qwen3-moe-expert", "families/gpt2"}) {
    model_ = OpenModel(SharedPath(std::string("oracles/") + name));
    const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
    ASSERT_TRUE(pass.ok()) << pass.status();
    std::vector<std::pair<float, DownProjEdit>> all;
    for (int layer = 0; layer < pass->layers(); ++layer) {
      for (int expert = kNoExpert; expert < pass->Experts(layer); ++expert) {
        const LinearTensors down = pass->DownProj(layer, expert);
        if (down.weight.name.empty()) continue;
        for (int64_t row = 0; row < model_.config.hidden; ++row) {
          const auto read = pass->ReadDownProjRow(layer, expert, row);
          ASSERT_TRUE(read.ok()) << read.status();
          for (size_t column = 0; column < read->weights.size(); ++column) {
            all.push_back({std::fabs(read->weights[column]),
                           {layer, row, static_cast<int64_t>(column), 0.0F, expert}});
          }
        }
      }
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    const DownProjEdit& top = all.front().second;
    SuperWeight spared{.position = {"", top.row, top.column}, .layer = top.layer};
    spared.expert = top.expert;
    const auto edits = ZeroedOutliers(*model_.checkpoint, *pass, {spared}, {.threads = 2});
    ASSERT_TRUE(edits.ok()) << edits.status();
    ASSERT_LT(all.size(), 2'000'000U);
    ASSERT_EQ(edits->size(), 10U);
    for (size_t i = 0; i < edits->size(); ++i) {
      const DownProjEdit& expected = all[i + 1].second;
      EXPECT_EQ((*edits)[i].layer, expected.layer);
      EXPECT_EQ((*edits)[i].expert, expected.expert);
      EXPECT_EQ((*edits)[i].row, expected.row);
      EXPECT_EQ((*edits)[i].column, expected.column);
      EXPECT_EQ((*edits)[i].value, 0);
    }
  }
}

}  // namespace
}  // namespace linchpin
