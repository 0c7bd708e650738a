// Classes and verdicts from ratios alone.
#include "detect/verdict.h"

#include "gtest/gtest.h"

namespace linchpin {
namespace {

struct Alone {
  double ratio, low;
};

Detection Judged(const std::vector<Alone>& alone, double joint) {
  Detection detection;
  detection.proof.emplace();
  for (const Alone& arm : alone) {
    detection.super_weights.emplace_back();
    detection.proof->alone.push_back({.perplexity_ratio = arm.ratio, .interval_low = arm.low});
  }
  if (!alone.empty()) detection.proof->joint = ProofArm{.perplexity_ratio = joint};
  Judge(detection);
  return detection;
}

TEST(JudgeTest, NothingFoundIsNone) { EXPECT_EQ(Judged({}, 1).verdict, Verdict::kNone); }

TEST(JudgeTest, OneThatBreaksTheModelIsSingle) {
  const Detection detection = Judged({{300, 250}}, 300);
  EXPECT_EQ(detection.verdict, Verdict::kSingle);
  EXPECT_EQ(detection.super_weights[0].weight_class, WeightClass::kCritical);
}

TEST(JudgeTest, OneThatDoesLittleIsInertAndTheVerdictNone) {
  const Detection detection = Judged({{1.03, 1.02}}, 1.03);
  EXPECT_EQ(detection.verdict, Verdict::kNone);
  EXPECT_EQ(detection.super_weights[0].weight_class, WeightClass::kInert);
}

TEST(JudgeTest, AWideIntervalIsNotCritical) {
  EXPECT_EQ(Judged({{1.6, 1.1}}, 1.6).verdict, Verdict::kNone);
}

// The pair of SmolLM2-135M: x5.6 and x1.2 alone, x61,662 together.
TEST(JudgeTest, APairOfWhichOneIsCriticalIsSeveral) {
  const Detection detection = Judged({{5.58, 4.9}, {1.21, 1.15}}, 61662);
  EXPECT_EQ(detection.verdict, Verdict::kSeveral);
  EXPECT_EQ(detection.super_weights[0].weight_class, WeightClass::kCritical);
  EXPECT_EQ(detection.super_weights[1].weight_class, WeightClass::kJoint);
}

// The six of Phi-3-mini: inert one by one, x374 together.
TEST(JudgeTest, SixThatMatterOnlyTogetherAreDistributed) {
  const Detection detection = Judged(std::vector<Alone>(6, {1.01, 1.0}), 374);
  EXPECT_EQ(detection.verdict, Verdict::kDistributed);
  for (const SuperWeight& weight : detection.super_weights) {
    EXPECT_EQ(weight.weight_class, WeightClass::kJoint);
  }
}

TEST(JudgeTest, OneCriticalBesideAnInertOneIsSingle) {
  // Together no more than apart, so the second does not matter.
  const Detection detection = Judged({{10, 8}, {1.01, 1.0}}, 10.2);
  EXPECT_EQ(detection.verdict, Verdict::kSingle);
  EXPECT_EQ(detection.super_weights[1].weight_class, WeightClass::kInert);
}

// A random model's loss on ids that are no text may fall when a weight goes.
TEST(JudgeTest, OnIdsThatAreNoTextDivergenceDecides) {
  Detection detection = Judged({{0.7, 0.6}, {1.9, 1.8}}, 1.0);
  detection.proof->origin = TokenOrigin::kBuiltInIds;
  detection.proof->alone[0].kl = 2;
  detection.proof->alone[0].kl_low = 1.9;
  detection.proof->alone[1].kl = 0.01;
  detection.proof->joint->kl = 2.01;
  Judge(detection);
  EXPECT_EQ(detection.super_weights[0].weight_class, WeightClass::kCritical);
  EXPECT_EQ(detection.super_weights[1].weight_class, WeightClass::kInert);
  EXPECT_EQ(detection.verdict, Verdict::kSingle);
}

TEST(JudgeTest, AWideIntervalOfTheDivergenceIsNotCritical) {
  Detection detection = Judged({{300, 250}}, 300);
  detection.proof->origin = TokenOrigin::kBuiltInIds;
  detection.proof->alone[0].kl = 2;
  detection.proof->alone[0].kl_low = 0.1;
  detection.proof->joint->kl = 2;
  Judge(detection);
  EXPECT_EQ(detection.verdict, Verdict::kNone);
}

Detection WithActivation(Detection detection, int64_t channel, Carrier carrier) {
  detection.super_activations.push_back({.channel = channel, .carrier = carrier});
  Judge(detection);
  return detection;
}

TEST(JudgeTest, AnActivationThatNoWeightCarriesIsDistributed) {
  for (const Carrier carrier :
       {Carrier::kMany, Carrier::kBias, Carrier::kAttention, Carrier::kNormGain}) {
    EXPECT_EQ(WithActivation(Judged({}, 1), 7, carrier).verdict, Verdict::kDistributed);
    // A weight of another channel does not stand behind it.
    Detection beside = Judged({{1.03, 1.02}}, 1.03);
    beside.super_weights[0].position.row = 8;
    EXPECT_EQ(WithActivation(beside, 7, carrier).verdict, Verdict::kDistributed);
    // A critical weight decides, whatever else there is.
    EXPECT_EQ(WithActivation(Judged({{300, 250}}, 300), 7, carrier).verdict, Verdict::kSingle);
  }
}

// tinystories-656k: a weight with a third of an activation that many make.
TEST(JudgeTest, AnActivationWhoseWeightIsInertIsNone) {
  Detection detection = Judged({{1.03, 1.02}}, 1.03);
  detection.super_weights[0].position.row = 88;
  detection = WithActivation(detection, 88, Carrier::kMany);
  EXPECT_EQ(detection.verdict, Verdict::kNone);
  EXPECT_EQ(detection.super_weights[0].weight_class, WeightClass::kInert);
}

TEST(JudgeTest, WithoutAProofNothingIsJudged) {
  Detection detection;
  detection.super_weights.emplace_back();
  Judge(detection);
  EXPECT_EQ(detection.verdict, Verdict::kUnproven);
  EXPECT_EQ(detection.super_weights[0].weight_class, WeightClass::kUnproven);
}

}  // namespace
}  // namespace linchpin
