// What the inputs of linear layers measure, against what the down_proj's own view shows.
#include "forward/importance_tap.h"

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "base/run_context.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

// Sums the squares of what OnDownProj shows, token by token.
struct DownProjSquares : Tap {
  std::map<std::pair<int, int>, std::vector<double>> squares;
  std::map<std::pair<int, int>, int64_t> tokens;

  void OnDownProj(const DownProjView& view) override {
    const std::pair place(view.layer, view.expert);
    std::vector<double>& sums = squares[place];
    sums.resize(static_cast<size_t>(view.input.columns));
    for (int64_t row = 0; row < view.input.rows; ++row) {
      for (size_t i = 0; i < sums.size(); ++i) {
        sums[i] += std::pow(static_cast<double>(view.input.Row(row)[i]), 2);
      }
    }
    tokens[place] += view.input.rows;
  }
};

// One lane per list of ids, through all layers.
void RunAll(const OracleModel& model, const std::vector<std::vector<int32_t>>& sequences, Tap& tap,
            int threads = 1) {
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  ASSERT_TRUE(pass.ok()) << pass.status();
  std::vector<Matrix> hidden;
  for (const std::vector<int32_t>& ids : sequences) hidden.push_back(*pass->Embed(ids));
  std::vector<Lane> lanes;
  for (Matrix& matrix : hidden) lanes.push_back({&matrix, {}, &tap});
  for (int i = 0; i < pass->layers(); ++i) {
    ASSERT_TRUE(pass->RunLayer(i, lanes, RunContext{.threads = threads}).ok());
  }
}

class ImportanceTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    LINCHPIN_NEEDS_SHARED();
    model_ = OpenModel(SharedPath("oracles/families/" + GetParam()));
  }
  std::vector<std::vector<int32_t>> Sequences() const {
    const std::vector<int32_t> ids = model_.token_ids();
    return {ids, {ids.begin(), ids.begin() + 7}};
  }
  OracleModel model_;
};

TEST_P(ImportanceTest, OfADownProjIsTheMeanSquareOfItsInput) {
  ImportanceTap tap;
  DownProjSquares expected;
  RunAll(model_, Sequences(), tap);
  RunAll(model_, Sequences(), expected);
  const Importance importance = tap.Take();
  const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
  ASSERT_TRUE(pass.ok());
  ASSERT_FALSE(expected.squares.empty());
  for (const auto& [place, squares] : expected.squares) {
    const std::string name = pass->DownProj(place.first, place.second).weight.name;
    const InputStatistics* statistics = FindImportance(importance, name);
    ASSERT_NE(statistics, nullptr) << name;
    const auto tokens = static_cast<double>(expected.tokens[place]);
    EXPECT_EQ(statistics->tokens, expected.tokens[place]);
    ASSERT_EQ(statistics->mean_squares.size(), squares.size());
    for (size_t i = 0; i < squares.size(); ++i) {
      EXPECT_NEAR(statistics->mean_squares[i], squares[i] / tokens, 1e-5 * squares[i] / tokens);
    }
  }
}

TEST_P(ImportanceTest, CoversEveryLinearLayerThatATokenReached) {
  ImportanceTap tap;
  DownProjSquares reached;
  RunAll(model_, Sequences(), tap);
  RunAll(model_, Sequences(), reached);
  const ModelTensors tensors(*model_.checkpoint, model_.config);
  std::set<std::string> expected;
  const auto add = [&expected](const LinearTensors& linear) {
    if (!linear.weight.name.empty()) expected.insert(linear.weight.name);
  };
  for (int layer = 0; layer < static_cast<int>(model_.config.layers); ++layer) {
    const AttentionTensors attention = tensors.Attention(layer);
    for (const auto* linear :
         {&attention.query, &attention.key, &attention.value, &attention.qkv, &attention.output}) {
      add(*linear);
    }
    for (int expert = kNoExpert; expert < tensors.Experts(layer); ++expert) {
      if (!reached.squares.contains({layer, expert})) continue;
      const MlpTensors mlp = tensors.Mlp(layer, expert);
      for (const auto* linear : {&mlp.gate, &mlp.up, &mlp.gate_up, &mlp.down}) add(*linear);
    }
  }
  std::set<std::string> measured;
  for (const auto& [name, statistics] : tap.Take()) measured.insert(name);
  EXPECT_EQ(measured, expected);
}

TEST_P(ImportanceTest, TheNumberOfThreadsChangesNothing) {
  ImportanceTap one;
  ImportanceTap four;
  RunAll(model_, Sequences(), one, 1);
  RunAll(model_, Sequences(), four, 4);
  const Importance a = one.Take();
  const Importance b = four.Take();
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, statistics] : a) {
    EXPECT_EQ(statistics->mean_squares, FindImportance(b, name)->mean_squares) << name;
    EXPECT_EQ(statistics->tokens, FindImportance(b, name)->tokens) << name;
  }
}

// Fused and separate projections, weights stored [in, out], parallel blocks,
// experts with and without a shared one.
INSTANTIATE_TEST_SUITE_P(Families, ImportanceTest,
                         ::testing::Values("llama", "phi3", "gpt2", "gpt_neox", "opt", "mixtral",
                                           "qwen2_moe"));

TEST(ImportanceTapTest, HasNoEntryForWhatNoTokenReached) {
  EXPECT_EQ(FindImportance(ImportanceTap().Take(), "model.layers.0.mlp.up_proj.weight"), nullptr);
}

}  // namespace
}  // namespace linchpin
