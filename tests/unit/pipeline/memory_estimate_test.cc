#include "pipeline/memory_estimate.h"

#include "base/status.h"
#include "gtest/gtest.h"
#include "pipeline/demo_model.h"
#include "storage/memory_storage.h"
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

TEST(MemoryEstimateTest, SourceErrorsPass) {
  EXPECT_EQ(ReasonOf(EstimateMemory(MemoryStorage(), "/none", 1).status()),
            Reason::kSourceNotFound);
}

}  // namespace
}  // namespace linchpin
