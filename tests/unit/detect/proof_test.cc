// The arms of a proof, on planted models whose losses transformers measured.
#include "detect/proof.h"

#include <string>

#include "detect/peel.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

class ProofTest : public ::testing::Test {
 protected:
  void SetUp() override { LINCHPIN_NEEDS_SHARED(); }

  void Prove(const std::string& name, ProofLevel level) {
    model_ = OpenModel(SharedPath("oracles/planted/" + name));
    auto pass = ForwardPass::Open(*model_.checkpoint, model_.config);
    ASSERT_TRUE(pass.ok()) << pass.status();
    pass_ = std::make_unique<ForwardPass>(std::move(pass).value());
    auto found = Peel(*model_.checkpoint, *pass_, model_.token_ids(), {}, {});
    ASSERT_TRUE(found.ok()) << found.status();
    detection_ = std::move(found).value();
    const absl::Status status =
        linchpin::Prove(*model_.checkpoint, *pass_,
                        {.windows = {model_.token_ids(), model_.token_ids()},
                         .origin = origin_,
                         .no_text_because = "none here"},
                        level, {.threads = 2}, detection_);
    ASSERT_TRUE(status.ok()) << status;
  }

  TokenOrigin origin_ = TokenOrigin::kGiven;
  OracleModel model_;
  std::unique_ptr<ForwardPass> pass_;
  Detection detection_;
};

TEST_F(ProofTest, LossesAreThoseOfTheReference) {
  Prove("03-qwen3-siblings", ProofLevel::kJoint);
  const Proof& proof = *detection_.proof;
  const Json& zeroed = model_.expected["zeroed"];
  EXPECT_EQ(proof.windows, 2);
  EXPECT_NEAR(proof.baseline_loss, model_.expected["loss"], 0.01);
  ASSERT_EQ(proof.alone.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    const Json& planted = model_.expected["planted"][i];
    int matches = 0;
    for (const ProofArm& arm : proof.alone) {
      ASSERT_EQ(arm.changed.size(), 1U);
      if (arm.changed[0].position.row != planted["row"]) continue;
      ++matches;
      EXPECT_EQ(arm.changed[0].position.column, planted["column"]);
      EXPECT_NEAR(arm.loss, zeroed["alone_loss"][i], 0.01);
      EXPECT_NEAR(arm.perplexity_ratio, std::exp(arm.loss - proof.baseline_loss), 1e-6);
    }
    EXPECT_EQ(matches, 1) << planted;
  }
  EXPECT_NEAR(proof.joint->loss, zeroed["joint_loss"], 0.01);
  EXPECT_TRUE(proof.leave_one_out.empty() && proof.mean_alone.empty() && !proof.mean_joint);
}

TEST_F(ProofTest, FullHasEveryArm) {
  Prove("09-llama-tied-bias-columns", ProofLevel::kFull);
  const Proof& proof = *detection_.proof;
  ASSERT_EQ(detection_.super_weights.size(), 2U);
  ASSERT_EQ(proof.leave_one_out.size(), 2U);
  ASSERT_EQ(proof.mean_alone.size(), 2U);
  // All but one of two is the other alone.
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(proof.leave_one_out[i].changed, proof.alone[1 - i].changed);
    EXPECT_NEAR(proof.leave_one_out[i].loss, proof.alone[1 - i].loss, 1e-5);
  }
  ASSERT_TRUE(proof.mean_joint);
  ASSERT_EQ(proof.mean_joint->changed.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const SuperWeight& weight = detection_.super_weights[i];
    const auto row = pass_->ReadDownProjRow(weight.layer, kNoExpert, weight.position.row);
    double sum = 0;
    for (const float value : row->weights) sum += value;
    const auto mean = static_cast<float>(sum / static_cast<double>(row->weights.size()));
    EXPECT_EQ(proof.mean_joint->changed[i], (PinnedWeight{weight.position, mean}));
    EXPECT_EQ(proof.mean_alone[i].changed, (std::vector{PinnedWeight{weight.position, mean}}));
    EXPECT_NE(proof.mean_alone[i].loss, proof.alone[i].loss);
  }
}

TEST_F(ProofTest, OfOneWeightAllButItIsTheUntouchedModel) {
  Prove("00-llama-one", ProofLevel::kFull);
  const ProofArm& arm = detection_.proof->leave_one_out.at(0);
  EXPECT_TRUE(arm.changed.empty());
  EXPECT_EQ(arm.perplexity_ratio, 1);
  EXPECT_NEAR(arm.kl, 0, 1e-6);
}

TEST_F(ProofTest, IntervalsHoldWhatTheyAreOf) {
  Prove("00-llama-one", ProofLevel::kJoint);
  const ProofArm& arm = detection_.proof->alone.at(0);
  EXPECT_LT(arm.interval_low, arm.perplexity_ratio);
  EXPECT_GT(arm.interval_high, arm.perplexity_ratio);
  EXPECT_LT(arm.kl_low, arm.kl);
  EXPECT_GT(arm.kl_high, arm.kl);
  EXPECT_GE(arm.kl_low, 0);
}

TEST_F(ProofTest, SaysWhatItRanOn) {
  origin_ = TokenOrigin::kBuiltInIds;
  Prove("12-qwen2-none", ProofLevel::kJoint);
  EXPECT_EQ(detection_.proof->origin, TokenOrigin::kBuiltInIds);
  EXPECT_EQ(detection_.proof->no_text_because, "none here");
}

TEST_F(ProofTest, NothingFoundHasItsBaselineOnly) {
  Prove("12-qwen2-none", ProofLevel::kFull);
  const Proof& proof = *detection_.proof;
  EXPECT_GT(proof.baseline_perplexity, 1);
  EXPECT_TRUE(proof.alone.empty() && proof.null.empty() && proof.leave_one_out.empty());
  EXPECT_FALSE(proof.joint || proof.mean_joint);
  EXPECT_EQ(detection_.verdict, Verdict::kNone);
}

// Each window against the same window of the untouched model: were they mixed
// up, or measured against another arm, an unchanged copy would differ.
TEST_F(ProofTest, DivergencesAreFromTheSameWindowUntouched) {
  const OracleModel model = OpenModel(SharedPath("oracles/planted/00-llama-one"));
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  ASSERT_TRUE(pass.ok()) << pass.status();
  const auto& planted = model.expected["planted"][0];
  const DownProjEdit edit{planted["layer"], planted["row"], planted["column"], 0.0F};
  DownProjEdit none = edit;
  none.value = planted["value"];
  const std::vector<TokenWindow> windows = {{1, 5, 9, 3}, {1, 2, 30, 4, 8}};
  const std::vector<Arm> changed = {{}, {{edit}}, {{none}}};
  const auto arms = MeasureArms(*pass, windows, changed, {});
  ASSERT_TRUE(arms.ok()) << arms.status();
  ASSERT_EQ(arms->size(), 3U);
  EXPECT_TRUE((*arms)[0].divergences.empty());
  ASSERT_EQ((*arms)[1].divergences.size(), 7U);
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_GT((*arms)[1].divergences[i], 1e-4) << i;
    EXPECT_NEAR((*arms)[2].divergences[i], 0, 1e-5) << i;
  }
}

}  // namespace
}  // namespace linchpin
