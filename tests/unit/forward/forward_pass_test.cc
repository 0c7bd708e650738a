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
  struct Seen {
    Spike input, output;
    std::vector<int64_t> tokens;
  };
  std::map<std::pair<int, int>, Seen> down_proj;  // by layer and expert
  std::map<int, Spike> residual;
  std::map<int, float> median;

  void OnDownProj(const DownProjView& view) override {
    Seen seen{
        LargestOf(view.input), LargestOf(view.output), {view.tokens.begin(), view.tokens.end()}};
    for (Spike* spike : {&seen.input, &seen.output}) spike->token = seen.tokens[spike->token];
    down_proj[{view.layer, view.expert}] = seen;
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
  for (int i = 0; i < pass->layers(); ++i) {
    const Lane lane{&result.hidden, edits, tap};
    const absl::Status run = pass->RunLayer(i, {&lane, 1}, RunContext{.threads = 2});
    EXPECT_TRUE(run.ok()) << run;
  }
  auto head = pass->LoadHead();
  EXPECT_TRUE(head.ok()) << head.status();
  const ScoreLane lane{&result.hidden, ids};
  const std::vector<float> losses = head->Score({&lane, 1}, RunContext{})->front().losses;
  result.loss =
      std::accumulate(losses.begin(), losses.end(), 0.0F) / static_cast<float>(losses.size());
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
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  const Json& down_proj = model_.expected["down_proj"];
  EXPECT_EQ(tap.down_proj.size(), down_proj.size());
  for (const auto& [place, seen] : tap.down_proj) {
    std::string name = pass->DownProj(place.first, place.second).weight.name;
    name.resize(name.size() - std::string(".weight").size());
    ASSERT_TRUE(down_proj.contains(name)) << name;
    ExpectSpike(seen.input, down_proj[name]["input"], name + " input");
    ExpectSpike(seen.output, down_proj[name]["output"], name + " output");
    if (down_proj[name].contains("tokens")) {
      EXPECT_EQ(seen.tokens, down_proj[name]["tokens"].get<std::vector<int64_t>>()) << name;
    }
  }
  for (int i = 0; i < static_cast<int>(model_.config.layers); ++i) {
    const std::string at = "layer " + std::to_string(i);
    const Json& residual = model_.expected["residual"][i];
    ExpectSpike(tap.residual[i], residual, at + " residual");
    ExpectClose(tap.median[i], residual["median_abs"], at + " median");
  }
}

// Planted models also say what zeroing does.
using PlantedOracleTest = OracleTest;
TEST_P(PlantedOracleTest, ZeroingChangesTheLossAsExpected) {
  ASSERT_EQ(model_.expected["planted"].empty(), model_.expected["kind"] == "none");
  if (model_.expected["planted"].empty()) return;  // there is nothing to zero
  std::vector<DownProjEdit> all;
  std::vector<double> alone = model_.expected["zeroed"]["alone_loss"];
  size_t i = 0;
  for (const Json& planted : model_.expected["planted"]) {
    const DownProjEdit edit{planted["layer"], planted["row"], planted["column"], 0.0F,
                            planted.value("expert", kNoExpert)};
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
const auto kFamilies = ::testing::Values(
    "families/falcon", "families/gemma", "families/gemma2", "families/gemma3_text", "families/gpt2",
    "families/gpt_neox", "families/llama", "families/llama3", "families/llama_tied_bias",
    "families/mistral", "families/mixtral", "families/olmo", "families/olmo2", "families/opt",
    "families/phi", "families/phi3", "families/qwen2", "families/qwen2_moe", "families/qwen3",
    "families/qwen3_moe");
const auto kPlanted =
    ::testing::Values("planted/00-llama-one", "planted/01-mistral-one", "planted/02-qwen2-one",
                      "planted/03-qwen3-siblings", "planted/04-phi3-six", "planted/05-olmo-stack",
                      "planted/06-llama3-siblings", "planted/07-gemma2-one", "planted/08-olmo2-one",
                      "planted/09-llama-tied-bias-columns", "planted/10-llama-decoy",
                      "planted/11-qwen3-moe-expert", "planted/12-qwen2-none");

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

TEST_F(LayerTest, AnEditConcernsItsOwnLaneOnly) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Matrix alone = *pass->Embed(model_.token_ids());
  Matrix before = alone, edited = alone, after = alone;
  // The same place twice: the last value counts.
  const std::vector<DownProjEdit> edits = {{1, 5, 54, 0.0F}, {1, 5, 54, 9.0F}};
  const Lane lanes[] = {{&before}, {&edited, edits}, {&after}};
  ASSERT_TRUE(pass->RunLayer(1, lanes, RunContext{.threads = 2}).ok());
  const Lane lane{&alone};
  ASSERT_TRUE(pass->RunLayer(1, {&lane, 1}, RunContext{}).ok());
  for (size_t i = 0; i < alone.data.size(); ++i) {
    const float bound = 1e-5F * std::max(1.0F, std::fabs(alone.data[i]));
    ASSERT_NEAR(before.data[i], alone.data[i], bound);
    ASSERT_NEAR(after.data[i], alone.data[i], bound);
    const bool in_row = i % static_cast<size_t>(edited.columns) == 5;
    if (!in_row) {
      ASSERT_NEAR(edited.data[i], alone.data[i], bound);
    }
  }
  EXPECT_GT(std::fabs(edited.data[5] - alone.data[5]), 1.0F);
}

TEST_F(LayerTest, AnEditOfAnotherLayerIsIgnored) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Matrix plain = *pass->Embed(model_.token_ids());
  Matrix edited = plain;
  const std::vector<DownProjEdit> edits = {{1, 5, 54, 0.0F}, {2, 5, 54, 0.0F, 0}};
  for (const Lane& lane : {Lane{&plain}, Lane{&edited, edits}}) {
    ASSERT_TRUE(pass->RunLayer(2, {&lane, 1}, RunContext{}).ok());
  }
  EXPECT_EQ(plain.data, edited.data);
}

TEST_F(LayerTest, TheNumberOfThreadsChangesNothing) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Matrix one = *pass->Embed(model_.token_ids());
  Matrix four = one;
  for (const auto& [threads, hidden] : {std::pair(1, &one), std::pair(4, &four)}) {
    const Lane lane{hidden};
    ASSERT_TRUE(pass->RunLayer(0, {&lane, 1}, RunContext{.threads = threads}).ok());
  }
  EXPECT_EQ(one.data, four.data);
}

TEST_F(LayerTest, TokensBeforeAreNotTouchedByTokensAfter) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  const std::vector<int32_t> ids = model_.token_ids();
  Matrix whole = *pass->Embed(ids);
  Matrix half = *pass->Embed(absl::MakeConstSpan(ids).subspan(0, 12));
  for (Matrix* hidden : {&whole, &half}) {
    const Lane lane{hidden};
    ASSERT_TRUE(pass->RunLayer(0, {&lane, 1}, RunContext{}).ok());
  }
  for (size_t i = 0; i < half.data.size(); ++i) {
    ASSERT_NEAR(half.data[i], whole.data[i], 1e-5F * std::max(1.0F, std::fabs(whole.data[i])));
  }
}

TEST_F(LayerTest, LanesGiveTheSameScoresTogetherAndAlone) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  const auto head = pass->LoadHead();
  ASSERT_TRUE(head.ok());
  const std::vector<int32_t> a = model_.token_ids();
  const std::vector<int32_t> b(a.begin() + 3, a.end());
  const Matrix hidden_a = *pass->Embed(a);
  const Matrix hidden_b = *pass->Embed(b);
  const ScoreLane lanes[] = {{&hidden_a, a}, {&hidden_b, b}};
  const auto together = *head->Score(lanes, RunContext{});
  ASSERT_EQ(together[0].losses.size(), a.size() - 1);
  ASSERT_EQ(together[1].losses.size(), b.size() - 1);
  const auto alone = *head->Score({&lanes[1], 1}, RunContext{});
  for (size_t i = 0; i < alone[0].losses.size(); ++i) {
    EXPECT_NEAR(alone[0].losses[i], together[1].losses[i], 1e-5);
  }
}

TEST_F(LayerTest, DivergencesAreThoseOfTheTwoDistributions) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  const auto head = pass->LoadHead();
  ASSERT_TRUE(head.ok());
  const std::vector<int32_t> ids = {1, 2};  // one position, whose logits LastLogits can give
  Matrix reference = *pass->Embed(ids);
  Matrix other = reference;
  for (size_t i = 0; i < other.data.size(); ++i) other.data[i] += i % 3 == 0 ? 0.5F : -0.2F;
  const ScoreLane lanes[] = {{&other, ids, 1}, {&reference, ids}};
  const auto scores = *head->Score(lanes, RunContext{});
  const auto log_softmax = [&](Matrix hidden) {
    hidden.data.resize(static_cast<size_t>(hidden.columns));
    hidden.rows = 1;
    const std::vector<float> logits = *head->LastLogits(hidden);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    std::vector<double> result;
    for (const float logit : logits) result.push_back(logit - std::log(sum));
    return result;
  };
  const std::vector<double> p = log_softmax(reference);
  const std::vector<double> q = log_softmax(other);
  double divergence = 0;
  for (size_t i = 0; i < p.size(); ++i) divergence += std::exp(p[i]) * (p[i] - q[i]);
  ASSERT_EQ(scores[0].divergences.size(), 1U);
  EXPECT_TRUE(scores[1].divergences.empty());
  EXPECT_GT(divergence, 1e-4);
  EXPECT_NEAR(scores[0].divergences[0], divergence, 1e-4 * std::max(1.0, divergence));
}

TEST_F(LayerTest, ANotFiniteResidualIsRefusedByLayer) {
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  Matrix hidden = *pass->Embed(model_.token_ids());
  const std::vector<DownProjEdit> edits = {{1, 5, 54, std::nanf("")}};
  const Lane lane{&hidden, edits};
  const absl::Status status = pass->RunLayer(1, {&lane, 1}, RunContext{});
  EXPECT_EQ(ReasonOf(status), Reason::kNotFinite);
  EXPECT_NE(status.message().find("layer 1"), std::string::npos);
}

TEST_F(LayerTest, MoreTokensThanPositionsAreRefused) {
  ModelConfig config = model_.config;
  config.max_positions = 4;
  const auto pass = ForwardPass::Open(*model_.checkpoint, config);
  ASSERT_TRUE(pass.ok());
  EXPECT_TRUE(pass->Embed({1, 2, 3, 4}).ok());
  EXPECT_EQ(ReasonOf(pass->Embed({1, 2, 3, 4, 5}).status()), Reason::kTokensInvalid);
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
