// What goes into linear layers, rounded to 8 bits.
#include "pipeline/activation_arms.h"

#include <cmath>
#include <string_view>

#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

constexpr std::string_view kDown = "model.layers.1.mlp.down_proj.weight";
constexpr std::string_view kUp = "model.layers.1.mlp.up_proj.weight";

class EightBitLensTest : public ::testing::Test {
 protected:
  void SetUp() override { PutTinyCheckpoint(storage_, "/m"); }

  // [2, 4] of the input of one weight of layer 1, as the lens makes it.
  std::vector<float> Change(std::vector<float> values, std::string_view weight, LinearInput kind,
                            ChannelScales smoothing, std::vector<SparedActivation> spared) {
    const auto checkpoint = Checkpoint::Open(storage_, "/m");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto plan = MakePlan(*checkpoint,
                         {.format = Format::kDense,
                          .scheme = Scheme::kW8A8,
                          .scale = ScaleRule::kMinMax,
                          .preserve = Preserve::kNone},
                         {});
    EXPECT_TRUE(plan.ok()) << plan.status();
    const EightBitLens lens(std::move(plan).value(), std::move(smoothing), std::move(spared));
    EXPECT_TRUE(lens.changes_inputs());
    const std::string_view weights[] = {weight};
    lens.ChangeInput({1, kind, weights, {values.data(), 2, 4}}, absl::MakeSpan(values));
    return values;
  }
  MemoryStorage storage_;
};

TEST_F(EightBitLensTest, EveryTokenHasAScaleOfItsOwn) {
  const std::vector<float> changed =
      Change({255, 1, 2.4F, -100, 0, 0, 0, 2.55F}, kDown, LinearInput::kDown, {}, {});
  // Steps of 2 and of 0.02: 127 codes above zero and 128 below.
  const std::vector<float> expected = {254, 0, 2, -100, 0, 0, 0, 2.54F};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(changed[i], expected[i], 1e-5F) << i;
}

TEST_F(EightBitLensTest, WhatIsNotRoundedKeepsItsInputs) {
  const std::vector<float> values = {255, 1, 2.4F, -100, 0, 0, 0, 2.55F};
  EXPECT_EQ(Change(values, "lm_head.weight", LinearInput::kDown, {}, {}), values);
}

TEST_F(EightBitLensTest, ASparedActivationDoesNotCrushItsToken) {
  // The middle of the eight, the lower one, is 1: it takes the place of 10000.
  const std::vector<float> values = {1, 2.55F, 10'000, 1, 1, 1, -3, 1};
  const SparedActivation spared{-1, std::string(kDown), 2};
  const std::vector<float> kept = Change(values, kDown, LinearInput::kDown, {}, {spared});
  EXPECT_EQ(kept[2], 10'000);
  EXPECT_NEAR(kept[0], 1, 0.011);
  EXPECT_NEAR(kept[1], 2.54, 1e-5);
  EXPECT_NEAR(kept[6], -3, 0.02);  // in the other token it is one of many
  const std::vector<float> crushed = Change(values, kDown, LinearInput::kDown, {}, {});
  EXPECT_EQ(crushed[0], 0);
  EXPECT_EQ(Change(values, kUp, LinearInput::kMlp, {}, {spared}),
            Change(values, kUp, LinearInput::kMlp, {}, {}));
}

// Made by layer 0, it stands in what layer 1 reads of the residual stream.
TEST_F(EightBitLensTest, TheResidualStreamsIsSparedAfterItsOnset) {
  const std::vector<float> values = {1, 2.55F, 10'000, 1, 1, 1, -3, 1};
  const auto with = [&](int onset, LinearInput kind) {
    return Change(values, kUp, kind, {}, {{onset, "", 2}})[0];
  };
  EXPECT_NEAR(with(0, LinearInput::kMlp), 1, 0.011);
  EXPECT_NEAR(with(0, LinearInput::kAttention), 1, 0.011);
  EXPECT_EQ(with(0, LinearInput::kDown), 0);
  EXPECT_EQ(with(0, LinearInput::kMixed), 0);
  EXPECT_EQ(with(1, LinearInput::kMlp), 0);
}

TEST_F(EightBitLensTest, SmoothedInputsAreDividedByTheirScales) {
  const auto scale = std::make_shared<const ChannelScale>(ChannelScale{100, 1, 1, 1});
  const std::vector<float> changed = Change({255, 1, 2.55F, -1, 0, 0, 0, 2.55F}, kUp,
                                            LinearInput::kMlp, {{std::string(kUp), scale}}, {});
  EXPECT_NEAR(changed[0], 2.54, 1e-5);
  EXPECT_NEAR(changed[1], 1, 1e-5);
  EXPECT_NEAR(changed[2], 2.54, 1e-5);
}

TEST(SparedActivationsTest, AreThoseOfADetection) {
  Detection detection;
  detection.super_activations.push_back({.channel = 7, .onset_layer = 2});
  SuperWeight weight;
  weight.position = {std::string(kDown), 7, 54};
  detection.super_weights.push_back(weight);
  const std::vector<SparedActivation> spared = SparedActivations(detection);
  ASSERT_EQ(spared.size(), 2U);
  EXPECT_EQ(spared[0].after_layer, 2);
  EXPECT_EQ(spared[0].channel, 7);
  EXPECT_EQ(spared[1].weight, kDown);
  EXPECT_EQ(spared[1].channel, 54);
}

}  // namespace
}  // namespace linchpin
