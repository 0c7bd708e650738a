// The rules of persistence on traces made by hand: one channel whose course over
// the layers is given, among quiet others.
#include "detect/super_activations.h"

#include "gtest/gtest.h"

namespace linchpin {
namespace {

// A trace of one token and 8 channels: channel 3 takes `course`, made by the MLPs; the rest are 1.
Trace TraceOf(const std::vector<float>& course) {
  const auto hidden = [](float value) {
    Matrix matrix{std::vector<float>(8, 1.0F), 1, 8};
    matrix.data[3] = value;
    return matrix;
  };
  Trace trace;
  trace.layers.resize(course.size());
  trace.layers[0].hidden = hidden(0);
  for (size_t i = 0; i < course.size(); ++i) {
    LayerTrace& layer = trace.layers[i];
    layer.record.residual = {0, 3, course[i]};
    layer.record.residual_median_abs = 1;
    layer.mlp_added = hidden(course[i] - (i > 0 ? course[i - 1] : 0));
    if (i + 1 < course.size()) trace.layers[i + 1].hidden = hidden(course[i]);
  }
  trace.last_hidden = hidden(course.back());
  return trace;
}

std::vector<SuperActivation> Find(const std::vector<float>& course) {
  const Trace trace = TraceOf(course);
  return FindSuperActivations(trace, FreezeBar(trace), DetectOptions{});
}

TEST(SuperActivationsTest, OneThatStaysIsFoundAtItsOnset) {
  const auto found = Find({1, 1, 900, 905, 900, 890, 880, 10});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].channel, 3);
  EXPECT_EQ(found[0].token, 0);
  EXPECT_EQ(found[0].onset_layer, 2);
  EXPECT_EQ(found[0].peak, 905);
  EXPECT_EQ(found[0].persistence, 1);
}

TEST(SuperActivationsTest, NegativeOnesCount) {
  const auto found = Find({1, -900, -905, -900, -890, 1});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].peak, -905);
}

TEST(SuperActivationsTest, ASpikeOfTheLastLayerIsRefused) {
  EXPECT_TRUE(Find({1, 1, 1, 1, 1, 900}).empty());
}

TEST(SuperActivationsTest, ASpikeOfTheLastLayerButOneIsRefused) {
  EXPECT_TRUE(Find({1, 1, 1, 1, 900, 900}).empty());
}

TEST(SuperActivationsTest, OneMadeAndTakenBackIsRefused) {
  EXPECT_TRUE(Find({1, 900, 900, 1, 1, 1, 1, 1}).empty());
}

TEST(SuperActivationsTest, OneMadeTakenBackAndMadeAgainHasItsOnsetAtThePlateau) {
  const auto found = Find({900, 1, 1, 900, 900, 900, 900, 1});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].onset_layer, 3);
}

TEST(SuperActivationsTest, AChangeOfSignDoesNotKeep) {
  EXPECT_TRUE(Find({1, 900, 900, -900, -850, -850, -850, -850, 1}).empty() ||
              Find({1, 900, 900, -900, -850, -850, -850, -850, 1})[0].onset_layer == 3);
}

TEST(SuperActivationsTest, QuietOnesAreNone) { EXPECT_TRUE(Find({1, 20, 20, 20, 20, 20}).empty()); }

TEST(SuperActivationsTest, SmallBesideTheLargestIsNone) {
  const Trace small = TraceOf({1, 90, 90, 90, 90, 90});
  Bar bar = FreezeBar(small);
  ASSERT_EQ(FindSuperActivations(small, bar, {}).size(), 1U);
  bar.largest = 1000;
  EXPECT_TRUE(FindSuperActivations(small, bar, {}).empty());
}

TEST(SuperActivationsTest, InAModelOfTwoLayersTheLastHiddenStateIsTheEvidence) {
  EXPECT_EQ(Find({400, 600}).size(), 1U);
  EXPECT_TRUE(Find({400, 1}).empty());
}

TEST(SuperActivationsTest, AModelOfOneLayerHasNothingToPersistIn) {
  EXPECT_TRUE(Find({400}).empty());
}

// Between made_peak_over_median and peak_over_median the MLP must have made it.
TEST(SuperActivationsTest, ALargeOneCountsIfAnMlpMadeItAtOnce) {
  EXPECT_EQ(Find({1, 45, 45, 45, 45, 45}).size(), 1U);
  Trace trace = TraceOf({1, 45, 45, 45, 45, 45});
  trace.layers[1].mlp_added.data[3] = 20;  // the rest came from elsewhere
  EXPECT_TRUE(FindSuperActivations(trace, FreezeBar(trace), DetectOptions{}).empty());
  Trace huge = TraceOf({1, 90, 90, 90, 90, 90});
  huge.layers[1].mlp_added.data[3] = 20;
  EXPECT_EQ(FindSuperActivations(huge, FreezeBar(huge), DetectOptions{}).size(), 1U);
}

std::vector<int> Makers(const std::vector<float>& course) {
  const Trace trace = TraceOf(course);
  const Bar bar = FreezeBar(trace);
  const auto found = FindSuperActivations(trace, bar, DetectOptions{});
  EXPECT_EQ(found.size(), 1U);
  return LayersThatMake(trace, bar, found[0], DetectOptions{});
}

TEST(LayersThatMakeTest, TheOnsetComesFirst) {
  EXPECT_EQ(Makers({1, 1, 900, 905, 900, 890, 880, 10}), std::vector<int>{2});
}

TEST(LayersThatMakeTest, EveryLayerThatAddsToItToStayCounts) {
  EXPECT_EQ(Makers({1, 57, 111, 111, 160, 160, 160, 160}), (std::vector<int>{2, 1, 4}));
}

// As layer 4 of the six of Phi-3.
TEST(LayersThatMakeTest, SoDoesOneThatLowersItForGood) {
  EXPECT_EQ(Makers({1, 900, 900, 600, 600, 600, 600, 600}), (std::vector<int>{1, 3}));
}

TEST(LayersThatMakeTest, OneWhoseChangeIsUndoneDoesNot) {
  EXPECT_EQ(Makers({1, 900, 900, 900, 900, 900, 400, 400}), std::vector<int>{1});
  EXPECT_EQ(Makers({300, 1, 1, 900, 900, 900, 900, 900}), std::vector<int>{3});
}

TEST(LayersThatMakeTest, TheLastLayerDoesNot) {
  EXPECT_EQ(Makers({1, 900, 900, 900, 900, 900, 900, 1800}), std::vector<int>{1});
}

}  // namespace
}  // namespace linchpin
