#include "pipeline/memory_estimate.h"

#include "base/status.h"
#include "detect/arms.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/demo_model.h"
#include "storage/memory_storage.h"
#include "storage/object_parts.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Two layers of one matrix each, of different sizes, and an embedding.
MemoryStorage Model(int64_t rows) {
  MemoryStorage storage;
  storage.Put("/m/config.json", ToBytes("{}"));
  storage.Put("/m/model.safetensors",
              ToBytes(SafetensorsFile(
                  {MakeCountingTensor("model.embed_tokens.weight", DType::kBF16, {4096, 64}),
                   MakeCountingTensor("model.layers.0.a", DType::kBF16, {rows, 64}),
                   MakeCountingTensor("model.layers.1.a", DType::kBF16, {2 * rows, 64})})));
  return storage;
}

TEST(MemoryEstimateTest, GrowsWithTheLargestLayerNotWithTheModel) {
  const auto small = SurveySource(Model(1024), "/m", 1);
  const auto large = SurveySource(Model(2048), "/m", 1);
  ASSERT_TRUE(small.ok()) << small.status();
  ASSERT_TRUE(large.ok()) << large.status();
  // 2 x 1024 more rows of 64 in the largest layer: float32, once as stored, and what
  // an encoder keeps beside the codes.
  EXPECT_EQ(large->memory_bytes - small->memory_bytes, 2 * 1024 * 64 * (4 + 2) + 2 * 1024 * 64 / 8);
  EXPECT_EQ(small->source_bytes, (4096 + 3 * 1024) * 64 * 2U);
}

TEST(FitMemoryTest, TakesSmallerSlabsThenFewerThreads) {
  const MemoryStorage storage = Model(1024);
  const auto checkpoint = Checkpoint::Open(storage, "/m");
  ASSERT_TRUE(checkpoint.ok());
  const auto fit = [&](uint64_t allowed) {
    return FitMemory(*checkpoint, 4, {.allowed = allowed});
  };
  const auto free = fit(0);
  ASSERT_TRUE(free.ok());
  EXPECT_EQ(free->threads, 4);
  EXPECT_EQ(free->slab_bytes, 4 << 20);
  uint64_t last = EstimateMemory(*checkpoint, *free);
  EXPECT_EQ(fit(last)->slab_bytes, 4 << 20);
  int threads = 4;
  int64_t slab = 4 << 20;
  int sets = 1;
  // Every byte less than a set needs gives the next one, which is cheaper.
  for (auto set = fit(last - 1); set.ok(); set = fit(last - 1)) {
    EXPECT_TRUE(set->threads < threads || set->slab_bytes < slab);
    threads = set->threads;
    slab = set->slab_bytes;
    EXPECT_LT(EstimateMemory(*checkpoint, *set), last);
    last = EstimateMemory(*checkpoint, *set);
    ++sets;
  }
  EXPECT_EQ(threads, 1);
  EXPECT_EQ(slab, 256 << 10);
  EXPECT_GE(sets, 4);
  const absl::Status refused = fit(last - 1).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(refused.message()),
              ::testing::HasSubstr("allow " + std::to_string(last) + " or more"));
  // What is only preferred is kept as well as can be.
  EXPECT_EQ(FitMemory(*checkpoint, 4, {.preferred = 1})->threads, 1);
}

TEST(MemoryEstimateTest, WithoutAForwardPassNoLayerCounts) {
  const TokenLoad none = LoadOf(CompressOptions{.detect = {.skip = true}});
  const auto small = SurveySource(Model(1024), "/m", 1, none);
  const auto large = SurveySource(Model(65536), "/m", 1, none);
  ASSERT_TRUE(small.ok() && large.ok());
  EXPECT_LT(large->memory_bytes - small->memory_bytes, 2 * 65536 * 64U) << "a byte per weight";
  EXPECT_LT(small->memory_bytes, SurveySource(Model(1024), "/m", 1)->memory_bytes);
}

TEST(MemoryEstimateTest, GrowsWithThreads) {
  const MemoryStorage storage = Model(64);
  EXPECT_GT(SurveySource(storage, "/m", 8)->memory_bytes,
            SurveySource(storage, "/m", 1)->memory_bytes + 64 * kMiB);
}

// There parts are put together in memory.
TEST(MemoryEstimateTest, AnOutputInAnObjectStoreCostsPartsForEachThread) {
  for (const char* place : {"/out", "file:///out", "", "s3:/out"}) {
    EXPECT_EQ(OutputBytesPerThread(place), 0U) << place;
  }
  EXPECT_EQ(OutputBytesPerThread("s3://bucket/out"), OutputBytesPerThread("gs://bucket/out"));
  const uint64_t parts = OutputBytesPerThread("s3://bucket/out");
  EXPECT_GE(parts, 2 * kPartBytes);
  const MemoryStorage storage = Model(64);
  for (const bool forward : {false, true}) {
    EXPECT_EQ(
        SurveySource(storage, "/m", 8, {.forward = forward, .per_writer = parts})->memory_bytes,
        SurveySource(storage, "/m", 8, {.forward = forward})->memory_bytes + 8 * parts);
  }
}

// What is stored in blocks of 34 bytes is computed with as 32 float32.
TEST(MemoryEstimateTest, QuantizedTensorsCountAsWhatTheyAreDecodedTo) {
  const auto estimate = [](int64_t rows) {
    std::vector<GgufFixture> tensors = TinyGgufTensors();
    std::erase_if(tensors, [](const auto& t) { return t.name == "blk.0.ffn_down.weight"; });
    tensors.push_back(
        {"blk.0.ffn_down.weight", {rows, 32}, 8, std::string(static_cast<size_t>(rows) * 34, 'q')});
    MemoryStorage storage;
    storage.Put("/m.gguf", ToBytes(GgufFile(TinyGgufPairs(), tensors)));
    const auto survey = SurveySource(storage, "/m.gguf", 1);
    EXPECT_TRUE(survey.ok()) << survey.status();
    return survey.value_or(SourceSurvey{}).memory_bytes;
  };
  EXPECT_EQ(estimate(2048) - estimate(1024), 1024U * (32 * 4 + 34 + 32 / 8));
}

// What grows with tokens: the trace of a prompt, and the streams of a proof up
// to what is held at once.
TEST(MemoryEstimateTest, GrowsWithWhatIsRun) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/m", {.hidden = 512, .intermediate = 512});
  const auto estimate = [&](const TokenLoad& load) {
    return SurveySource(storage, "/m", 1, load)->memory_bytes;
  };
  const uint64_t nothing = estimate({});
  EXPECT_EQ(estimate({.prompt = 1000}) - nothing, 1000U * 512 * 4 * 2 * 3);
  EXPECT_EQ(estimate({.longest = 100, .measured = 1000}) - nothing, 2U * 1000 * 512 * 4);
  const uint64_t most = estimate({.longest = 100, .measured = int64_t{1} << 40});
  EXPECT_EQ(most - nothing, 2U * kHiddenBytes);
  EXPECT_GT(estimate({.longest = 4096, .measured = 4096}),
            estimate({.longest = 256, .measured = 4096}));
}

// A rounded copy's streams beside the model's, the calibration's, and what AWQ gathers.
TEST(MemoryEstimateTest, AnalysesCount) {
  EvaluateRequest request{.tokens = {.ids = {{1, 2, 3}, {1, 2, 3, 4, 5}}}};
  EXPECT_EQ(LoadOf(request).measured, 8);
  EXPECT_EQ(LoadOf(request).prompt, 0);
  request.analyses.arms = true;
  EXPECT_EQ(LoadOf(request).measured, 16);
  EXPECT_EQ(LoadOf(request).prompt, 16);
  EXPECT_EQ(LoadOf(request).longest, 5);
  request.analyses.activations = true;
  EXPECT_EQ(LoadOf(request).longest, 256);
  EXPECT_EQ(LoadOf(request).gathered, 0);
  request.analyses.awq = true;
  request.analyses.calibration.ids = {{1, 2, 3, 4}};
  EXPECT_EQ(LoadOf(request).gathered, 4);
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "/m", {.hidden = 512, .intermediate = 512});
  EXPECT_EQ(SurveySource(storage, "/m", 1, {.gathered = 1000})->memory_bytes -
                SurveySource(storage, "/m", 1)->memory_bytes,
            1000U * 512 * 4);
}

TEST(MemoryEstimateTest, LoadsFollowTheOptions) {
  const TokenLoad ids = LoadOf(TokenSource{.ids = {{1, 2, 3}, {1, 2, 3, 4, 5}}}, {});
  EXPECT_EQ(ids.longest, 5);
  EXPECT_EQ(ids.measured, 8);
  const TokenLoad text = LoadOf(TokenSource{.text = "x"}, {.size = 128, .count = 3});
  EXPECT_EQ(text.longest, 128);
  EXPECT_EQ(text.measured, 384);
  DetectRequest request;
  EXPECT_EQ(LoadOf(request).prompt, 16);
  EXPECT_EQ(LoadOf(request).others, 0);
  request.prompts = 7;
  EXPECT_EQ(LoadOf(request).prompt, 16);
  EXPECT_EQ(LoadOf(request).others, 6 * 16);
  request.prompts = 1;
  EXPECT_EQ(LoadOf(request).measured, 0);
  request.prompt.text = "eleven char";
  request.study = true;
  EXPECT_EQ(LoadOf(request).prompt, 12);
  EXPECT_EQ(LoadOf(request).longest, 256);
  EXPECT_GE(LoadOf(request).measured, 4 * 256);
}

TEST(MemoryEstimateTest, TokensBesideTheDetectionCount) {
  CompressOptions options;
  EXPECT_EQ(LoadOf(options).longest, 256);
  EXPECT_EQ(LoadOf(options).prompt, 16);
  options.calibration.ids = {std::vector<int32_t>(300), std::vector<int32_t>(40)};
  EXPECT_EQ(LoadOf(options).longest, 300);
  EXPECT_EQ(LoadOf(options).measured, 340);
  options.quantize.scale = ScaleRule::kSigned;
  EXPECT_EQ(LoadOf(options).longest, 0);
}

TEST(MemoryEstimateTest, SourceErrorsPass) {
  EXPECT_EQ(ReasonOf(SurveySource(MemoryStorage(), "/none", 1).status()), Reason::kSourceNotFound);
}

}  // namespace
}  // namespace linchpin
