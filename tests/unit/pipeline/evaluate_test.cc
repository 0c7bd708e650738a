// The loss of a model, and its divergence from another.
#include "pipeline/evaluate.h"

#include <cmath>

#include "base/status.h"
#include "detect/arms.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

const TokenSource kTokens = {.ids = {{1, 5, 9, 3, 7}, {1, 2, 20, 4}}};

absl::StatusOr<Evaluation> EvaluateTiny(const TinyCheckpoint& other, const char* against) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/m");
  PutTinyCheckpoint(storage, "/other", other);
  return Evaluate(storage, "/m", {.against = against, .tokens = kTokens}, RunContext{.threads = 2});
}

TEST(EvaluateTest, AgainstItselfNothingDiverges) {
  const auto evaluation = EvaluateTiny({}, "/other");
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_EQ(evaluation->tokens, 7);
  ASSERT_TRUE(evaluation->against);
  EXPECT_EQ(evaluation->against->loss, evaluation->loss);
  EXPECT_NEAR(evaluation->against->kl, 0, 1e-6);
}

TEST(EvaluateTest, WithoutAnotherThereIsNoComparison) {
  const auto evaluation = EvaluateTiny({}, "");
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_FALSE(evaluation->against);
}

// Another shape, another dtype, another number of layers: only the vocabulary is shared.
TEST(EvaluateTest, ModelsOfDifferentShapesAreCompared) {
  const auto evaluation =
      EvaluateTiny({.dtype = DType::kF32, .hidden = 32, .intermediate = 48, .layers = 3}, "/other");
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  MemoryStorage alone;
  PutTinyCheckpoint(alone, "/other",
                    {.dtype = DType::kF32, .hidden = 32, .intermediate = 48, .layers = 3});
  const auto other = Evaluate(alone, "/other", {.tokens = kTokens}, {});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NEAR(evaluation->against->loss, other->loss, 1e-6);
  EXPECT_DOUBLE_EQ(evaluation->against->perplexity, std::exp(evaluation->against->loss));
  EXPECT_GT(evaluation->against->kl, 0);
}

TEST(EvaluateTest, AnotherVocabularyIsRefused) {
  const auto evaluation = EvaluateTiny({.vocab = 32}, "/other");
  EXPECT_EQ(ReasonOf(evaluation.status()), Reason::kOptionInvalid);
  EXPECT_NE(evaluation.status().message().find("32 tokens"), std::string::npos);
}

TEST(EvaluateTest, AMissingOtherIsNamed) {
  const auto evaluation = EvaluateTiny({}, "/nowhere");
  EXPECT_EQ(ReasonOf(evaluation.status()), Reason::kSourceNotFound);
  EXPECT_NE(evaluation.status().message().find("/nowhere"), std::string::npos);
}

// A model and a copy with one weight zeroed: as the arms of a proof measure it.
TEST(EvaluateTest, DivergenceIsThatOfAnArm) {
  MemoryStorage storage;
  const auto zero = [](TensorFixture& tensor) {
    if (tensor.info.name == "model.layers.0.mlp.down_proj.weight") SetElement(tensor, 3, 9, 0.0F);
  };
  const auto pin = [](TensorFixture& tensor) {
    if (tensor.info.name == "model.layers.0.mlp.down_proj.weight") SetElement(tensor, 3, 9, 8.0F);
  };
  PutTinyCheckpoint(storage, "/original", {.edit = pin});
  PutTinyCheckpoint(storage, "/zeroed", {.edit = zero});
  const auto evaluation =
      Evaluate(storage, "/zeroed", {.against = "/original", .tokens = kTokens}, {});
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  const auto checkpoint = Checkpoint::Open(storage, "/original");
  ASSERT_TRUE(checkpoint.ok());
  const auto config = ModelConfig::Parse("config.json", checkpoint->config_text());
  ASSERT_TRUE(config.ok()) << config.status();
  const auto pass = ForwardPass::Open(*checkpoint, *config);
  ASSERT_TRUE(pass.ok()) << pass.status();
  const std::vector<Arm> arms = {{}, {{{0, 3, 9, 0.0F}}}};
  const auto scores = MeasureArms(*pass, kTokens.ids, arms, {});
  ASSERT_TRUE(scores.ok()) << scores.status();
  double kl = 0;
  for (const float value : (*scores)[1].divergences) kl += value / 7;
  EXPECT_GT(kl, 1e-4);
  EXPECT_NEAR(evaluation->against->kl, kl, 1e-3 * kl);
}

}  // namespace
}  // namespace linchpin
