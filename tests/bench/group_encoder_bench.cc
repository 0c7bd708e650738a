// Bytes of source weights per second and thread through EncodeGroups.
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// Arguments: dtype, group size, rule, whether it has zero points.
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
  const std::vector<float> importance(kColumns, 1.0F);
  std::vector<int8_t> zeros(kRows * kColumns / group);
  const EncodeRequest request{.dtype = dtype,
                              .scale_dtype = dtype,
                              .coding = {.asymmetric = state.range(3) != 0},
                              .rows = kRows,
                              .columns = kColumns,
                              .group_size = group,
                              .rule = static_cast<ScaleRule>(state.range(2)),
                              .importance = importance,
                              .weights = weights.data(),
                              .codes = packed.data(),
                              .scales = scales.data(),
                              .zeros = state.range(3) != 0 ? zeros.data() : nullptr};
  for (auto _ : state) benchmark::DoNotOptimize(EncodeGroups(request));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(weights.size()));
  state.SetLabel(std::string(NameOf(dtype)) +
                 (request.rule == ScaleRule::kImportance ? ", importance" : "") +
                 (request.coding.asymmetric ? ", zero points" : ""));
}
BENCHMARK(BM_EncodeGroups)
    ->ArgsProduct({{static_cast<int64_t>(DType::kBF16), static_cast<int64_t>(DType::kF16),
                    static_cast<int64_t>(DType::kF32)},
                   {32, 128, 8192},
                   {static_cast<int64_t>(ScaleRule::kSigned)},
                   {0}})
    ->ArgsProduct({{static_cast<int64_t>(DType::kBF16)},
                   {32, 128},
                   {static_cast<int64_t>(ScaleRule::kImportance)},
                   {0, 1}});

}  // namespace
}  // namespace linchpin
