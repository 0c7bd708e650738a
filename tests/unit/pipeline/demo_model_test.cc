// The demonstration model: deterministic, and its super weight really matters.
#include "pipeline/demo_model.h"

#include "artifact/digest.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/detect.h"
#include "pipeline/evaluate.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

class DemoModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto bytes = WriteDemoModel(storage_, "/demo");
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    written_ = *bytes;
  }

  TokenSource Tokens() const {
    const Json windows = Json::parse(ToText(storage_.Get("/demo/tokens.json")));
    return {.ids = windows, .text = ""};
  }

  MemoryStorage storage_;
  uint64_t written_ = 0;
};

TEST_F(DemoModelTest, IsAFewMegabytes) {
  EXPECT_GT(written_, 1U << 20);
  EXPECT_LT(written_, 10U << 20);
}

TEST_F(DemoModelTest, IsTheSameEveryTime) {
  MemoryStorage other;
  ASSERT_TRUE(WriteDemoModel(other, "/again").ok());
  for (const char* name : {"config.json", "model.safetensors", "tokens.json"}) {
    EXPECT_EQ(*storage_.Get(std::string("/demo/") + name),
              *other.Get(std::string("/again/") + name))
        << name;
  }
}

TEST_F(DemoModelTest, IsNotWrittenOverAnything) {
  EXPECT_EQ(ReasonOf(WriteDemoModel(storage_, "/demo").status()), Reason::kOutputExists);
}

TEST_F(DemoModelTest, KnowsItsLanguage) {
  const auto evaluation =
      Evaluate(storage_, "/demo", {.tokens = Tokens()}, RunContext{.threads = 2});
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_EQ(evaluation->tokens, 8 * 127);
  EXPECT_LT(evaluation->perplexity, 4);  // of 512 tokens
}

TEST_F(DemoModelTest, HasOneSuperWeightWithoutWhichItIsNoise) {
  const auto detection =
      Detect(storage_, "/demo", {.proof = ProofLevel::kJoint, .proof_tokens = Tokens()},
             RunContext{.threads = 2});
  ASSERT_TRUE(detection.ok()) << detection.status();
  ASSERT_EQ(detection->super_weights.size(), 1U);
  EXPECT_EQ(detection->super_weights[0].position,
            (WeightPosition{"model.layers.1.mlp.down_proj.weight", 1, 37}));
  EXPECT_EQ(detection->super_weights[0].weight_class, WeightClass::kCritical);
  EXPECT_EQ(detection->verdict, Verdict::kSingle);
  EXPECT_GE(detection->proof->alone[0].interval_low, 10);
  ASSERT_EQ(detection->proof->null.size(), 4U);
  for (const ProofArm& arm : detection->proof->null) {
    EXPECT_NEAR(arm.perplexity_ratio, 1, 0.01);
  }
}

// It has no tokenizer, so that the proof runs on ids that are not its language.
TEST_F(DemoModelTest, IsProvenWithoutAnyData) {
  const auto detection =
      Detect(storage_, "/demo", {.proof = ProofLevel::kFull}, RunContext{.threads = 2});
  ASSERT_TRUE(detection.ok()) << detection.status();
  const Proof& proof = *detection->proof;
  EXPECT_EQ(proof.origin, TokenOrigin::kBuiltInIds);
  EXPECT_EQ(proof.windows, 2);
  EXPECT_EQ(detection->verdict, Verdict::kSingle);
  EXPECT_GT(proof.joint->kl, 1);
  for (const ProofArm& arm : proof.null) EXPECT_LT(arm.kl, 0.01);
}

TEST_F(DemoModelTest, SeveralPromptsAgree) {
  const auto detection = Detect(storage_, "/demo", {.prompts = 4}, RunContext{.threads = 2});
  ASSERT_TRUE(detection.ok()) << detection.status();
  ASSERT_TRUE(detection->stability);
  EXPECT_EQ(detection->stability->agreement, 1);
  EXPECT_EQ(detection->stability->prompts.size(), 4U);
  ASSERT_EQ(detection->super_weights.size(), 1U);
  EXPECT_EQ(detection->super_weights[0].agreement, 1);
  EXPECT_EQ(detection->super_weights[0].weight_only_column_rank, 1);
}

TEST_F(DemoModelTest, WeightsAloneRunNothing) {
  const DetectRequest request = {.weights_only = true};
  const auto detection = Detect(storage_, "/demo", request, RunContext{.threads = 2});
  ASSERT_TRUE(detection.ok()) << detection.status();
  ASSERT_TRUE(detection->suspects);
  EXPECT_EQ(detection->suspects->front().position,
            (WeightPosition{"model.layers.1.mlp.down_proj.weight", 1, 37}));
  EXPECT_TRUE(detection->super_weights.empty() && detection->layers.empty());
  EXPECT_EQ(detection->verdict, Verdict::kUnproven);
  DetectRequest both = request;
  both.proof = ProofLevel::kJoint;
  EXPECT_EQ(ReasonOf(Detect(storage_, "/demo", both, {}).status()), Reason::kOptionInvalid);
  both = request;
  both.prompts = 2;
  EXPECT_EQ(ReasonOf(Detect(storage_, "/demo", both, {}).status()), Reason::kOptionInvalid);
}

}  // namespace
}  // namespace linchpin
