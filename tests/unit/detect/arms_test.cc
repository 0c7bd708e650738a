// Changed copies of a model: batches that fit into memory, activations put back.
#include "detect/arms.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

class ArmsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LINCHPIN_NEEDS_SHARED();
    model_ = OpenModel(SharedPath("oracles/planted/00-llama-one"));
    auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
    ASSERT_TRUE(pass.ok()) << pass.status();
    pass_ = std::make_unique<ForwardPass>(std::move(pass).value());
    const Json& planted = model_.expected["planted"][0];
    zeroed_ = {planted["layer"], planted["row"], planted["column"], 0.0F};
  }

  std::vector<ArmScores> Measure(const std::vector<TokenWindow>& windows,
                                 const std::vector<Arm>& arms, int64_t hidden_bytes = kHiddenBytes,
                                 const std::vector<int32_t>& watched = {}) {
    const auto scores = MeasureArms(*pass_, windows, arms, {.threads = 2}, watched, hidden_bytes);
    EXPECT_TRUE(scores.ok()) << scores.status();
    return scores.value_or(std::vector<ArmScores>());
  }

  OracleModel model_;
  std::unique_ptr<ForwardPass> pass_;
  DownProjEdit zeroed_;
};

// Windows and arms cut into batches of two streams each, or of five: the same
// scores in the same places.
TEST_F(ArmsTest, BatchesGiveWhatOneReadingGives) {
  const std::vector<TokenWindow> windows = {{1, 5, 9, 3}, {1, 2, 30, 4, 8}, {1, 7, 7}};
  DownProjEdit other = zeroed_;
  other.value = 1;
  const std::vector<Arm> arms = {{}, {{zeroed_}}, {{other}}, {{}, {{2, 5}}}};
  const std::vector<ArmScores> whole = Measure(windows, arms, kHiddenBytes, {5, 3});
  ASSERT_EQ(whole.size(), 4U);
  ASSERT_EQ(whole[0].losses.size(), 9U);
  const int64_t stream = 5 * pass_->config().hidden * static_cast<int64_t>(sizeof(float));
  for (const int64_t bytes : {int64_t{1}, 5 * stream}) {
    const std::vector<ArmScores> cut = Measure(windows, arms, bytes, {5, 3});
    for (size_t arm = 0; arm < arms.size(); ++arm) {
      EXPECT_EQ(cut[arm].losses, whole[arm].losses) << arm;
      EXPECT_EQ(cut[arm].divergences, whole[arm].divergences) << arm;
      ASSERT_EQ(cut[arm].watched.size(), 2U);
      for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(cut[arm].watched[i], whole[arm].watched[i], 1e-6);
    }
  }
  EXPECT_TRUE(Measure(windows, {{}}, 1)[0].divergences.empty());
}

TEST_F(ArmsTest, AtLeastTwoStreamsAreHeld) {
  const std::vector<TokenWindow> windows = {TokenWindow(100), TokenWindow(1000)};
  EXPECT_EQ(StreamsTogether(windows, 1024, 40'960'000), 10U);
  EXPECT_EQ(StreamsTogether(windows, 1024, 1), 2U);
}

// Of the model with its super weight zeroed, everything that it changed is that
// activation, at one token: with it put back nothing is lost.
TEST_F(ArmsTest, APutBackActivationUndoesTheZeroing) {
  const std::vector<TokenWindow> windows = {model_.token_ids()};
  const Arm restored = {{zeroed_}, {{zeroed_.layer, zeroed_.row}}};
  const Arm elsewhere = {{zeroed_}, {{zeroed_.layer, zeroed_.row == 0 ? 1 : 0}}};
  const std::vector<ArmScores> scores = Measure(windows, {{}, {{zeroed_}}, restored, elsewhere});
  const auto divergence = [&](size_t arm) {
    const std::vector<float>& values = scores[arm].divergences;
    return std::accumulate(values.begin(), values.end(), 0.0);
  };
  EXPECT_GT(divergence(1), 0.1);
  EXPECT_LT(divergence(2), 0.01 * divergence(1));
  EXPECT_GT(divergence(3), 0.5 * divergence(1));
}

TEST_F(ArmsTest, WatchedTokensHaveTheirProbability) {
  const auto head = pass_->LoadHead();
  ASSERT_TRUE(head.ok());
  const std::vector<int32_t> ids = {1, 2};  // one position, whose logits LastLogits can give
  Matrix hidden = *pass_->Embed(ids);
  const ScoreLane lane{&hidden, ids};
  const std::vector<int32_t> watched = {0, 2, 159};
  const auto scores = head->Score({&lane, 1}, {}, watched);
  ASSERT_TRUE(scores.ok());
  hidden.data.resize(static_cast<size_t>(hidden.columns));
  hidden.rows = 1;
  const std::vector<float> logits = *head->LastLogits(hidden);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  ASSERT_EQ((*scores)[0].watched.size(), 3U);
  for (size_t i = 0; i < watched.size(); ++i) {
    EXPECT_NEAR((*scores)[0].watched[i],
                std::exp(static_cast<double>(logits[static_cast<size_t>(watched[i])])) / sum, 1e-6);
  }
}

}  // namespace
}  // namespace linchpin
