// The forward pass against values that transformers computed (float32, eager).
#include "forward/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <tuple>

#include "base/run_context.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

struct Spike {
  int64_t token = 0;
  int64_t channel = 0;
  float value = 0;
};

Spike LargestOf(MatrixView view) {
  Spike spike;
  for (int64_t i = 0; i < view.rows * view.columns; ++i) {
    if (std::fabs(view.data[i]) <= std::fabs(spike.value)) continue;
    spike = {i / view.columns, i % view.columns, view.data[i]};
  }
  return spike;
}

float MedianAbs(MatrixView view) {
  std::vector<float> values(view.data, view.data + view.rows * view.columns);
  for (float& value : values) value = std::fabs(value);
  std::sort(values.begin(), values.end());
  return values[(values.size() - 1) / 2];
}

// Keeps what the oracle has of each layer.
struct RecordingTap : Tap {
  std::map<int, Spike> input, output, residual;
  std::map<int, float> median;

  void OnDownProj(int layer, MatrixView in, MatrixView out) override {
    input[layer] = LargestOf(in);
    output[layer] = LargestOf(out);
  }
  void OnResidual(int layer, MatrixView hidden) override {
    residual[layer] = LargestOf(hidden);
    median[layer] = MedianAbs(hidden);
  }
};

void ExpectClose(double actual, double expected, const std::string& what) {
  EXPECT_LE(std::fabs(actual - expected), 1e-3 * std::max(1e-2, std::fabs(expected))) << what;
}

void ExpectSpike(const Spike& actual, const Json& expected, const std::string& what) {
  EXPECT_EQ(actual.token, expected["token"].get<int64_t>()) << what;
  EXPECT_EQ(actual.channel, expected["channel"].get<int64_t>()) << what;
  ExpectClose(actual.value, expected["value"], what);
}

struct RunResult {
  Matrix hidden;
  float loss = 0;
  std::vector<float> last_logits;
};

RunResult RunAll(const OracleModel& model, const std::vector<DownProjEdit>& edits, Tap* tap) {
  const auto ids = model.token_ids();
  auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  EXPECT_TRUE(pass.ok()) << pass.status();
  RunResult result;
  result.hidden = *pass->Embed(ids);
  Layer layer;
  for (int i = 0; i < pass->layers(); ++i) {
    const absl::Status loaded = pass->LoadLayer(i, RunContext{.threads = 2}, layer);
    EXPECT_TRUE(loaded.ok()) << loaded;
    EXPECT_TRUE(layer.Run(edits, tap, result.hidden).ok());
  }
  auto head = pass->LoadHead();
  EXPECT_TRUE(head.ok()) << head.status();
  const LossLane lane{&result.hidden, ids};
  const auto losses = *head->Losses({&lane, 1}, RunContext{});
  result.loss = std::accumulate(losses[0].begin(), losses[0].end(), 0.0F) /
                static_cast<float>(losses[0].size());
  result.last_logits = *head->LastLogits(result.hidden);
  return result;
}

using Case = std::tuple<std::string, std::string>;  // model, config dialect

class OracleTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    LINCHPIN_NEEDS_SHARED();
    const auto& [name, dialect] = GetParam();
    model_ = OpenModel(SharedPath("oracles/" + name), dialect);
  }
  OracleModel model_;
};

TEST_P(OracleTest, LossAndLogits) {
  const RunResult result = RunAll(model_, {}, nullptr);
  ExpectClose(result.loss, model_.expected["loss"], "loss");
  const std::vector<double> logits = model_.expected["last_logits"];
  ASSERT_EQ(result.last_logits.size(), logits.size());
  const double largest =
      std::fabs(*std::max_element(logits.begin(), logits.end(),
                                  [](double a, double b) { return std::fabs(a) < std::fabs(b); }));
  for (size_t i = 0; i < logits.size(); ++i) {
    EXPECT_NEAR(result.last_logits[i], logits[i], 1e-3 * largest) << "logit " << i;
  }
}

TEST_P(OracleTest, ActivationsOfEveryLayer) {
  RecordingTap tap;
  RunAll(model_, {}, &tap);
  for (int i = 0; i < static_cast<int>(model_.config.layers); ++i) {
    const std::string at = "layer " + std::to_string(i);
    const Json& down =
        model_.expected["down_proj"]["model.layers." + std::to_string(i) + ".mlp.down_proj"];
    ExpectSpike(tap.input[i], down["input"], at + " input");
    ExpectSpike(tap.output[i], down["output"], at + " output");
    const Json& residual = model_.expected["residual"][i];
    ExpectSpike(tap.residual[i], residual, at + " residual");
    ExpectClose(tap.median[i], residual["median_abs"], at + " median");
  }
}

// Planted models also say what zeroing does.
using PlantedOracleTest = OracleTest;
TEST_P(PlantedOracleTest, ZeroingChangesTheLossAsExpected) {
  std::vector<DownProjEdit> all;
  std::vector<double> alone = model_.expected["zeroed"]["alone_loss"];
  size_t i = 0;
  for (const Json& planted : model_.expected["planted"]) {
    const DownProjEdit edit{planted["layer"], planted["row"], planted["column"], 0.0F};
    ExpectClose(RunAll(model_, {edit}, nullptr).loss, alone[i++], "alone");
    all.push_back(edit);
  }
  RecordingTap tap;
  ExpectClose(RunAll(model_, all, &tap).loss, model_.expected["zeroed"]["joint_loss"], "joint");
  const Json& residual = model_.expected["zeroed"]["joint_residual"];
  for (int layer = 0; layer < static_cast<int>(model_.config.layers); ++layer) {
    ExpectSpike(tap.residual[layer], residual[layer], "residual without");
  }
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param);
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

const auto kDialects = ::testing::Values("config.json", "config.v5.json");
const auto kFamilies =
    ::testing::Values("families/llama", "families/llama_tied_bias", "families/llama3");
const auto kPlanted =
    ::testing::Values("planted/00-llama-one", "planted/06-llama3-siblings",
                      "planted/09-llama-tied-bias-columns", "planted/10-llama-decoy");

INSTANTIATE_TEST_SUITE_P(Families, OracleTest, ::testing::Combine(kFamilies, kDialects), CaseName);
INSTANTIATE_TEST_SUITE_P(Planted, OracleTest, ::testing::Combine(kPlanted, kDialects), CaseName);
INSTANTIATE_TEST_SUITE_P(Planted, PlantedOracleTest, ::testing::Combine(kPlanted, kDialects),
                         CaseName);

class LayerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LINCHPIN_NEEDS_SHARED();
    model_ = OpenModel(SharedPath("oracles/planted/00-llama-one"));
  }
  OracleModel model_;
};

TEST_F(LayerTest, AnEditIsGoneAfterTheRun) {
  auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Layer layer;
  ASSERT_TRUE(pass->LoadLayer(1, RunContext{}, layer).ok());
  const Matrix start = *pass->Embed(model_.token_ids());
  Matrix before = start, edited = start, after = start;
  ASSERT_TRUE(layer.Run({}, nullptr, before).ok());
  // The same place twice: the first value must come back.
  ASSERT_TRUE(layer.Run({{{1, 5, 54, 0.0F}, {1, 5, 54, 9.0F}}}, nullptr, edited).ok());
  ASSERT_TRUE(layer.Run({}, nullptr, after).ok());
  EXPECT_EQ(before.data, after.data);
  EXPECT_NE(before.data, edited.data);
}

TEST_F(LayerTest, AnEditOfAnotherLayerIsIgnored) {
  auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Layer layer;
  ASSERT_TRUE(pass->LoadLayer(2, RunContext{}, layer).ok());
  Matrix plain = *pass->Embed(model_.token_ids());
  Matrix edited = plain;
  ASSERT_TRUE(layer.Run({}, nullptr, plain).ok());
  ASSERT_TRUE(layer.Run({{{1, 5, 54, 0.0F}}}, nullptr, edited).ok());
  EXPECT_EQ(plain.data, edited.data);
}

TEST_F(LayerTest, TokensBeforeAreNotTouchedByTokensAfter) {
  auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Layer layer;
  ASSERT_TRUE(pass->LoadLayer(0, RunContext{}, layer).ok());
  const std::vector<int32_t> ids = model_.token_ids();
  Matrix whole = *pass->Embed(ids);
  Matrix half = *pass->Embed(absl::MakeConstSpan(ids).subspan(0, 12));
  ASSERT_TRUE(layer.Run({}, nullptr, whole).ok());
  ASSERT_TRUE(layer.Run({}, nullptr, half).ok());
  for (size_t i = 0; i < half.data.size(); ++i) {
    ASSERT_NEAR(half.data[i], whole.data[i], 1e-5F * std::max(1.0F, std::fabs(whole.data[i])));
  }
}

TEST_F(LayerTest, LanesGiveTheSameLossesTogetherAndAlone) {
  auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  auto head = pass->LoadHead();
  ASSERT_TRUE(head.ok());
  const std::vector<int32_t> a = model_.token_ids();
  const std::vector<int32_t> b(a.begin() + 3, a.end());
  const Matrix hidden_a = *pass->Embed(a);
  const Matrix hidden_b = *pass->Embed(b);
  const LossLane lanes[] = {{&hidden_a, a}, {&hidden_b, b}};
  const auto together = *head->Losses(lanes, RunContext{});
  ASSERT_EQ(together[0].size(), a.size() - 1);
  ASSERT_EQ(together[1].size(), b.size() - 1);
  const auto alone = *head->Losses({&lanes[1], 1}, RunContext{});
  for (size_t i = 0; i < alone[0].size(); ++i) EXPECT_NEAR(alone[0][i], together[1][i], 1e-5);
}

TEST_F(LayerTest, TokensOutsideTheVocabularyAreRefused) {
  auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  for (const std::vector<int32_t>& ids :
       std::vector<std::vector<int32_t>>{{}, {-1}, {160}, {1, 2, 1 << 30}}) {
    EXPECT_EQ(ReasonOf(pass->Embed(ids).status()), Reason::kTokensInvalid);
  }
}

TEST_F(LayerTest, AConfigThatDoesNotFitTheWeightsIsRefused) {
  ModelConfig config = model_.config;
  config.intermediate = 128;
  const auto wrong_shape = ForwardPass::Open(*model_.checkpoint, config);
  EXPECT_EQ(ReasonOf(wrong_shape.status()), Reason::kTensorShapeInvalid);
  EXPECT_NE(wrong_shape.status().message().find("mlp.gate_proj"), std::string::npos);
  config = model_.config;
  config.layers = 9;
  const auto missing = ForwardPass::Open(*model_.checkpoint, config);
  EXPECT_EQ(ReasonOf(missing.status()), Reason::kTensorMissing);
  EXPECT_NE(missing.status().message().find("model.layers.8"), std::string::npos);
}

}  // namespace
}  // namespace linchpin
