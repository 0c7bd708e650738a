#include "pipeline/memory_estimate.h"

#include "base/status.h"
#include "gtest/gtest.h"
#include "pipeline/demo_model.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"

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
  const auto small = EstimateMemory(Model(1024), "/m", 1);
  const auto large = EstimateMemory(Model(2048), "/m", 1);
  ASSERT_TRUE(small.ok()) << small.status();
  ASSERT_TRUE(large.ok()) << large.status();
  // 2 x 1024 more rows of 64 in the largest layer: float32, and once as stored.
  EXPECT_EQ(*large - *small, 2 * 1024 * 64 * (4 + 2));
}

TEST(MemoryEstimateTest, GrowsWithThreads) {
  const MemoryStorage storage = Model(64);
  EXPECT_GT(*EstimateMemory(storage, "/m", 8), *EstimateMemory(storage, "/m", 1) + 64 * kMiB);
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
    const auto bytes = EstimateMemory(storage, "/m.gguf", 1);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.value_or(0);
  };
  EXPECT_EQ(estimate(2048) - estimate(1024), 1024U * (32 * 4 + 34));
}

TEST(MemoryEstimateTest, SourceErrorsPass) {
  EXPECT_EQ(ReasonOf(EstimateMemory(MemoryStorage(), "/none", 1).status()),
            Reason::kSourceNotFound);
}

}  // namespace
}  // namespace linchpin
