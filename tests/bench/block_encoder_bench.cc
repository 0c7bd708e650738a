// Bytes of source weights per second and thread through EncodeBlocks.
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "quantize/block_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// Arguments: id of the type, dtype, whether importance is given.
void BM_EncodeBlocks(benchmark::State& state) {
  const GgufBlockType& type = *FindGgufBlockType(static_cast<uint32_t>(state.range(0)));
  const auto dtype = static_cast<DType>(state.range(1));
  constexpr int64_t kRows = 64;
  constexpr int64_t kColumns = 8192;
  const int64_t size = SizeOf(dtype);
  std::vector<std::byte> weights(kRows * kColumns * size);
  std::vector<std::byte> blocks(kRows * kColumns / type.elements * type.bytes);
  const std::vector<float> importance(state.range(2) == 0 ? 0 : kColumns, 1.0F);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    StoreAs(dtype, normal(random), weights.data() + i * size);
  }
  const BlockRequest request{.type = &type,
                             .dtype = dtype,
                             .rows = kRows,
                             .columns = kColumns,
                             .importance = importance,
                             .weights = weights.data(),
                             .blocks = blocks.data()};
  for (auto _ : state) benchmark::DoNotOptimize(EncodeBlocks(request));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(weights.size()));
  state.SetLabel(std::string(type.name) + " of " + std::string(NameOf(dtype)) +
                 (state.range(2) == 0 ? "" : ", importance"));
}
// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q6_K, F16
BENCHMARK(BM_EncodeBlocks)
    ->ArgsProduct({{2, 3, 6, 7, 8, 12, 14, 1}, {static_cast<int64_t>(DType::kF16)}, {0, 1}});

}  // namespace
}  // namespace linchpin
