// Linear layers seen through a lens: what their products are made of.
#include "forward/linear_lens.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/run_context.h"
#include "base/status.h"
#include "forward/forward_pass.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

// Routers are no layers that a lens changes: not their weights, and not what goes into them.
bool IsRouter(std::string_view name) {
  return name.ends_with("mlp.gate.weight") || name.ends_with("shared_expert_gate.weight");
}

// Shows weights as they are, times a factor.
class Scaled : public SeenWeight {
 public:
  Scaled(const Checkpoint& checkpoint, const StoredTensor& weight, float factor)
      : checkpoint_(checkpoint), weight_(weight), factor_(factor) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    EXPECT_EQ(first % kRows, 0);
    const auto count = static_cast<int64_t>(out.size()) / weight_.info.shape[1];
    RETURN_IF_ERROR(checkpoint_.ReadRows(weight_, first, count, out));
    for (float& w : out) w *= factor_;
    return absl::OkStatus();
  }

 private:
  const Checkpoint& checkpoint_;
  const StoredTensor& weight_;
  const float factor_;
};

struct ScalingLens : LinearLens {
  float weights = 1;
  float inputs = 1;
  mutable std::set<std::string> seen;
  mutable std::map<LinearInput, std::set<int>> kinds;  // the layers that had them

  absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(const Checkpoint& checkpoint,
                                                         const StoredTensor& weight,
                                                         const RunContext&) const override {
    seen.insert(weight.info.name);
    if (IsRouter(weight.info.name)) return nullptr;
    return std::make_unique<Scaled>(checkpoint, weight, weights);
  }
  bool changes_inputs() const override { return inputs != 1; }
  void ChangeInput(const LinearInputView& view, absl::Span<float> values) const override {
    EXPECT_EQ(view.input.data, values.data());
    kinds[view.kind].insert(view.layer);
    for (float& x : values) x *= inputs;
  }
};

class LinearLensTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    LINCHPIN_NEEDS_SHARED();
    model_ = OpenModel(SharedPath("oracles/families/" + GetParam()));
  }

  // Two sequences through all layers; the residual streams one after the other.
  std::vector<float> Run(const LinearLens* lens, Tap* tap = nullptr, int threads = 2) {
    const auto pass = ForwardPass::Open(*model_.checkpoint, model_.config, lens);
    EXPECT_TRUE(pass.ok()) << pass.status();
    const std::vector<int32_t> ids = model_.token_ids();
    Matrix one = *pass->Embed(ids);
    Matrix two = *pass->Embed(absl::MakeConstSpan(ids).subspan(0, 7));
    const Lane lanes[] = {{&one, {}, tap}, {&two, {}, tap}};
    for (int i = 0; i < pass->layers(); ++i) {
      const absl::Status run = pass->RunLayer(i, lanes, RunContext{.threads = threads});
      EXPECT_TRUE(run.ok()) << run;
    }
    one.data.insert(one.data.end(), two.data.begin(), two.data.end());
    return one.data;
  }

  void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    float largest = 0;
    for (const float x : expected) largest = std::max(largest, std::fabs(x));
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], 1e-5F * largest);
    }
  }
  OracleModel model_;
};

TEST_P(LinearLensTest, WeightsAsTheyAreChangeNothing) {
  const ScalingLens lens;
  ExpectNear(Run(&lens), Run(nullptr));
}

// Half of the inputs times twice the weights: no rounding, as both are powers of two.
TEST_P(LinearLensTest, WhatItTakesFromInputsItMayGiveToWeights) {
  ScalingLens lens;
  lens.weights = 2;
  lens.inputs = 0.5F;
  const std::vector<float> plain = Run(nullptr);
  // Biases and routers stay as they are, so only with both is all as it was.
  ExpectNear(Run(&lens), plain);
  const bool routed = std::any_of(lens.seen.begin(), lens.seen.end(), IsRouter);
  EXPECT_EQ(routed, model_.config.experts.count > 0);
  ScalingLens weights_only;
  weights_only.weights = 2;
  EXPECT_NE(Run(&weights_only), plain);
}

TEST_P(LinearLensTest, EveryInputHasItsKindInEveryLayer) {
  ScalingLens lens;
  lens.inputs = 0.5F;
  Run(&lens);
  std::set<int> layers;
  for (int i = 0; i < static_cast<int>(model_.config.layers); ++i) layers.insert(i);
  for (const LinearInput kind :
       {LinearInput::kAttention, LinearInput::kMixed, LinearInput::kMlp, LinearInput::kDown}) {
    EXPECT_EQ(lens.kinds[kind], layers);
  }
  EXPECT_FALSE(lens.seen.contains("model.embed_tokens.weight"));
  EXPECT_FALSE(lens.seen.contains("lm_head.weight"));
}

// What a tap sees is what the lens has not changed yet.
TEST_P(LinearLensTest, TapsSeeWhatTheLensDoesNot) {
  struct FirstInput : Tap {
    std::vector<float> values;
    void OnLinearInput(const LinearInputView& view) override {
      if (!values.empty()) return;
      values.assign(view.input.data, view.input.data + view.input.rows * view.input.columns);
    }
  };
  ScalingLens lens;
  lens.inputs = 0.5F;
  FirstInput plain, seen;
  Run(nullptr, &plain);
  Run(&lens, &seen);
  EXPECT_EQ(seen.values, plain.values);
}

TEST_P(LinearLensTest, TheNumberOfThreadsChangesNothing) {
  ScalingLens lens;
  lens.weights = 0.75F;
  lens.inputs = 1.25F;
  EXPECT_EQ(Run(&lens, nullptr, 1), Run(&lens, nullptr, 4));
}

TEST_P(LinearLensTest, ARowOfADownProjIsAsItIsSeen) {
  ScalingLens lens;
  lens.weights = 2;
  const auto plain = ForwardPass::Open(*model_.checkpoint, model_.config);
  const auto seen = ForwardPass::Open(*model_.checkpoint, model_.config, &lens);
  ASSERT_TRUE(plain.ok() && seen.ok());
  const int expert = plain->Experts(1) > 0 ? 0 : kNoExpert;
  auto expected = plain->ReadDownProjRow(1, expert, 19);
  const auto row = seen->ReadDownProjRow(1, expert, 19);
  ASSERT_TRUE(row.ok()) << row.status();
  for (float& w : expected->weights) w *= 2;
  EXPECT_EQ(row->weights, expected->weights);
}

INSTANTIATE_TEST_SUITE_P(Families, LinearLensTest,
                         ::testing::Values("llama", "phi3", "gpt2", "gpt_neox", "qwen2_moe"));

// A weight that cannot be shown ends the run with its error.
TEST(LinearLensErrorTest, IsTheRunsError) {
  LINCHPIN_NEEDS_SHARED();
  struct Refusing : LinearLens {
    absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(const Checkpoint&,
                                                           const StoredTensor& weight,
                                                           const RunContext&) const override {
      return Error(Reason::kNotFinite, weight.info.name, "it is NaN");
    }
  };
  const OracleModel model = OpenModel(SharedPath("oracles/families/llama"));
  const Refusing lens;
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config, &lens);
  ASSERT_TRUE(pass.ok());
  Matrix hidden = *pass->Embed(model.token_ids());
  const Lane lane{&hidden};
  EXPECT_EQ(ReasonOf(pass->RunLayer(0, {&lane, 1}, RunContext{})), Reason::kNotFinite);
}

}  // namespace
}  // namespace linchpin
