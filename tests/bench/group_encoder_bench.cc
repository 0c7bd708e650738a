// Bytes of source weights per second and thread through EncodeGroups.
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// Arguments: dtype, group size.
void BM_EncodeGroups(benchmark::State& state) {
  const auto dtype = static_cast<DType>(state.range(0));
  constexpr int64_t kRows = 256;
  constexpr int64_t kColumns = 8192;
  const int64_t group = state.range(1);
  const int64_t size = SizeOf(dtype);
  std::vector<std::byte> weights(kRows * kColumns * size);
  std::vector<std::byte> packed(kRows * kColumns / 2);
  std::vector<std::byte> scales(kRows * kColumns / group * size);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    StoreAs(dtype, normal(random), weights.data() + i * size);
  }
  const EncodeRequest request{.dtype = dtype,
                              .scale_dtype = dtype,
                              .rows = kRows,
                              .columns = kColumns,
                              .group_size = group,
                              .weights = weights.data(),
                              .codes = packed.data(),
                              .scales = scales.data()};
  for (auto _ : state) benchmark::DoNotOptimize(EncodeGroups(request));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(weights.size()));
  state.SetLabel(std::string(NameOf(dtype)));
}
BENCHMARK(BM_EncodeGroups)
    ->ArgsProduct({{static_cast<int64_t>(DType::kBF16), static_cast<int64_t>(DType::kF16),
                    static_cast<int64_t>(DType::kF32)},
                   {32, 128, 8192}});

}  // namespace
}  // namespace linchpin
