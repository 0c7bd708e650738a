// The rules of persistence on traces made by hand: one channel whose course over
// the layers is given, among quiet others.
#include "detect/super_activations.h"

#include "gtest/gtest.h"

namespace linchpin {
namespace {

// A trace of one token and 8 channels: channel 3 takes `course`, the rest are 1.
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

}  // namespace
}  // namespace linchpin
