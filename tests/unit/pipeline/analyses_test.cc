// Rounded copies of a model that nobody writes, against those that are written.
#include "pipeline/analyses.h"

#include <cmath>
#include <limits>
#include <map>
#include <stop_token>

#include "base/status.h"
#include "gtest/gtest.h"
#include "pipeline/compress.h"
#include "pipeline/demo_model.h"
#include "pipeline/evaluate.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

const TokenSource kTokens = {.ids = {{1, 5, 9, 3, 7}, {1, 2, 20, 4}}};

EvaluateRequest ArmsOf(std::vector<int64_t> blocks, int bits, float z) {
  EvaluateRequest request{.tokens = kTokens};
  request.analyses = {.arms = true, .blocks = std::move(blocks), .bits = bits, .z = z};
  return request;
}

struct Written {
  std::string_view arm;
  Preserve preserve;
  float z;
};

// Every arm is the model that a dense output of the same choices holds.
TEST(WeightArmsTest, AreTheModelsThatADenseOutputHolds) {
  MemoryStorage storage;
  ASSERT_TRUE(WriteDemoModel(storage, "/m").ok());
  const auto seen = Evaluate(storage, "/m", ArmsOf({500, kWholeTensor}, 3, 2), {.threads = 2});
  ASSERT_TRUE(seen.ok()) << seen.status();
  ASSERT_EQ(seen->arms.size(), 8U);
  for (const int64_t block : {int64_t{500}, kWholeTensor}) {
    for (const Written& written :
         {Written{"rtn", Preserve::kNone, 0}, Written{"rtn_clip", Preserve::kNone, 2},
          Written{"rtn_clip_restore", Preserve::kRestore, 2},
          Written{"rtn_held_out", Preserve::kRestore, 0}}) {
      QuantizeOptions options{.format = Format::kDense,
                              .scheme = Scheme::kBlocks,
                              .scale = ScaleRule::kMinMax,
                              .preserve = written.preserve};
      options.blocks = {.bits = 3, .run = block < 0 ? 1 << 30 : block, .z = written.z};
      const std::string out = "/" + std::string(written.arm) + std::to_string(block);
      const auto made = Compress(storage, "/m", storage, out, {.quantize = options}, {});
      ASSERT_TRUE(made.ok()) << made.status();
      ASSERT_FALSE(made->detection->super_weights.empty());
      const auto read = Evaluate(storage, out, {.against = "/m", .tokens = kTokens}, {});
      ASSERT_TRUE(read.ok()) << read.status();
      const auto arm = std::find_if(
          seen->arms.begin(), seen->arms.end(),
          [&](const RoundedModel& row) { return row.name == written.arm && row.block == block; });
      ASSERT_NE(arm, seen->arms.end());
      EXPECT_NEAR(arm->loss, read->loss, 1e-6 * read->loss) << out;
      EXPECT_NEAR(arm->kl, read->against->kl, 1e-5 * read->against->kl + 1e-7) << out;
      EXPECT_GT(arm->kl, 1e-5) << out;
      EXPECT_DOUBLE_EQ(arm->perplexity, std::exp(arm->loss));
    }
  }
}

TEST(AnalysesTest, DoNotDependOnTheNumberOfThreads) {
  MemoryStorage storage;
  ASSERT_TRUE(WriteDemoModel(storage, "/m").ok());
  EvaluateRequest request = ArmsOf({1000}, 4, 9);
  request.analyses.activations = request.analyses.awq = true;
  const auto one = Evaluate(storage, "/m", request, {.threads = 1});
  const auto four = Evaluate(storage, "/m", request, {.threads = 4});
  ASSERT_TRUE(one.ok() && four.ok()) << one.status() << four.status();
  ASSERT_EQ(one->activations.size(), 3U);
  ASSERT_FALSE(one->awq.empty());
  for (size_t i = 0; i < one->arms.size(); ++i) EXPECT_EQ(one->arms[i].kl, four->arms[i].kl);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(one->activations[i].kl, four->activations[i].kl);
  for (size_t i = 0; i < one->awq.size(); ++i) EXPECT_EQ(one->awq[i].scale, four->awq[i].scale);
}

// The arms of weights and of activations change nothing of each other, nor of the
// model's own numbers.
TEST(AnalysesTest, StandBesideThePlainNumbers) {
  MemoryStorage storage;
  ASSERT_TRUE(WriteDemoModel(storage, "/m").ok());
  const auto plain = Evaluate(storage, "/m", {.tokens = kTokens}, {});
  EvaluateRequest request = ArmsOf({1000}, 4, 9);
  const auto arms = Evaluate(storage, "/m", request, {});
  request.analyses.activations = true;
  request.against = "/m";
  const auto both = Evaluate(storage, "/m", request, {});
  ASSERT_TRUE(plain.ok() && arms.ok() && both.ok());
  EXPECT_EQ(arms->loss, plain->loss);
  EXPECT_EQ(arms->tokens, plain->tokens);
  EXPECT_EQ(both->loss, plain->loss);
  EXPECT_EQ(both->tokens, plain->tokens);
  EXPECT_NEAR(both->against->kl, 0, 1e-6);
  EXPECT_EQ(both->arms[3].kl, arms->arms[3].kl);
}

TEST(AnalysesTest, WithoutTokensTheyRunOnOurs) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/m");
  EvaluateRequest request;
  request.analyses.arms = true;
  request.analyses.blocks = {64};
  const auto evaluation = Evaluate(storage, "/m", request, {});
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_GT(evaluation->tokens, 50);
  // No super weight stands in it: that and what it ran on is said.
  ASSERT_FALSE(evaluation->notes.empty());
  EXPECT_NE(evaluation->notes.back().find("no super weight"), std::string::npos);
  ASSERT_EQ(evaluation->arms.size(), 4U);
  EXPECT_EQ(evaluation->arms[0].kl, evaluation->arms[3].kl);
  EXPECT_EQ(evaluation->arms[1].kl, evaluation->arms[2].kl);
  request.analyses.arms = false;
  EXPECT_EQ(ReasonOf(Evaluate(storage, "/m", request, {}).status()), Reason::kOptionInvalid);
}

TEST(AnalysesTest, AWeightThatIsNotFiniteIsNamed) {
  MemoryStorage storage;
  // Through a column that no activation reaches: the model itself stays finite.
  PutTinyCheckpoint(storage, "/m", {.edit = [](TensorFixture& tensor) {
                      if (tensor.info.name != "model.layers.1.mlp.up_proj.weight") return;
                      SetElement(tensor, 3, 9, std::numeric_limits<float>::infinity());
                    }});
  const auto evaluation = Evaluate(storage, "/m", ArmsOf({64}, 4, 9), {});
  EXPECT_EQ(ReasonOf(evaluation.status()), Reason::kNotFinite);
  EXPECT_NE(evaluation.status().message().find("up_proj"), std::string::npos)
      << evaluation.status();
}

TEST(AnalysesTest, AStopEndsThem) {
  MemoryStorage storage;
  ASSERT_TRUE(WriteDemoModel(storage, "/m").ok());
  std::stop_source stop;
  stop.request_stop();
  EvaluateRequest request = ArmsOf({1000}, 4, 9);
  request.analyses.awq = request.analyses.activations = true;
  EXPECT_EQ(ReasonOf(Evaluate(storage, "/m", request, {.stop = stop.get_token()}).status()),
            Reason::kCancelled);
}

TEST(AnalysisOptionsTest, AreRefusedOutOfBounds) {
  EXPECT_TRUE(CheckOptions(AnalysisOptions{}).ok());
  const AnalysisOptions wrong[] = {{.blocks = {}},
                                   {.blocks = {31}},
                                   {.blocks = {-2}},
                                   {.blocks = {64, 0}},
                                   {.bits = 1},
                                   {.bits = 9},
                                   {.z = 0},
                                   {.z = -1},
                                   {.smoothing = 0},
                                   {.smoothing = 1.01},
                                   {.z = std::nanf("")},
                                   {.smoothing = std::nan("")}};
  for (const AnalysisOptions& options : wrong) {
    EXPECT_EQ(ReasonOf(CheckOptions(options)), Reason::kOptionInvalid);
  }
}

}  // namespace
}  // namespace linchpin
