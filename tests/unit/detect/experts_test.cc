#include "detect/experts.h"

#include "detect/notes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

LayerRecord Layer(int layer, const std::vector<float>& outputs) {
  LayerRecord record{.layer = layer};
  for (size_t i = 0; i < outputs.size(); ++i) {
    record.experts.push_back(
        {.expert = static_cast<int>(i), .output = {.channel = 3, .value = outputs[i]}});
  }
  return record;
}

// Layer 1 forms a super activation, layer 2 does not.
Detection TwoLayers(const std::vector<float>& first, const std::vector<float>& second) {
  Detection detection;
  detection.layers = {Layer(1, first), Layer(2, second)};
  detection.super_activations = {{.onset_layer = 1}};
  return detection;
}

TEST(ExpertsTest, TheOneThatStandsOutInALayerThatFormsIsSuper) {
  const auto found = FindSuperExperts(TwoLayers({1, -90, 2, 1}, {1, 2, 1, 1}));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].layer, 1);
  EXPECT_EQ(found[0].expert, 1);
  EXPECT_EQ(found[0].output.value, -90);
  EXPECT_EQ(found[0].over_largest, 1);
}

TEST(ExpertsTest, InALayerThatFormsNothingItIsNot) {
  EXPECT_THAT(FindSuperExperts(TwoLayers({1, 2, 1, 1}, {1, 90, 2, 1})), IsEmpty());
}

TEST(ExpertsTest, EachRuleRefuses) {
  Detection detection = TwoLayers({1, 9, 2, 1}, {1, 100, 1, 1});
  EXPECT_THAT(FindSuperExperts(detection), IsEmpty());  // neither the quantile nor the tenth
  detection.options.expert_quantile = 0.5F;
  EXPECT_THAT(FindSuperExperts(detection), IsEmpty());  // 9 is less than a tenth of 100
  detection.options.expert_over_largest = 0.05F;
  EXPECT_EQ(FindSuperExperts(detection).size(), 1U);
  detection.options.expert_quantile = 0.995F;
  EXPECT_THAT(FindSuperExperts(detection), IsEmpty());
}

TEST(ExpertsTest, WithoutExpertsThereAreNone) {
  EXPECT_THAT(FindSuperExperts(TwoLayers({}, {})), IsEmpty());
  EXPECT_THAT(FindSuperExperts({}), IsEmpty());
}

TEST(ExpertsTest, WhatNoTokenReachedIsNamed) {
  Detection detection = TwoLayers({1, 2}, {1});
  NameUnreached(4, detection.layers[0]);
  NameUnreached(1, detection.layers[1]);
  EXPECT_THAT(detection.layers[0].unreached, ElementsAre(2, 3));
  EXPECT_THAT(detection.layers[1].unreached, IsEmpty());
  const auto notes = NotesOn(detection);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_NE(notes[0].find("2 of the 5 experts"), std::string::npos);
}

}  // namespace
}  // namespace linchpin
