// The input is a config.json.  What it declares costs no more than the text of it, but
// for what is kept of each layer.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/model_config.h"
#include "tests/fuzz/allocated_bytes.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

namespace {

// 2^14 layers with a flag and a window each, some times over while they are made.
constexpr uint64_t kLayersBytes = uint64_t{4} << 20;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const AllocatedBytes allocated;
  const auto config = linchpin::ModelConfig::Parse("fuzz", TextOf(data, size));
  INVARIANT(allocated.count() <= kLayersBytes + 1024 * size);
  if (!config.ok()) return 0;
  INVARIANT(config->hidden > 0 && config->intermediate > 0 && config->layers > 0);
  INVARIANT(config->kv_heads > 0 && config->heads % config->kv_heads == 0);
  INVARIANT(config->head_dim > 0);
  int64_t product = 0;
  INVARIANT(!__builtin_mul_overflow(config->vocab, config->hidden * 8, &product));
  INVARIANT(
      !__builtin_mul_overflow(config->heads * config->head_dim, config->hidden * 8, &product));
  INVARIANT(std::isfinite(config->norm_eps) && config->norm_eps > 0);
  INVARIANT(std::isfinite(config->rope.full.theta) && config->rope.full.theta > 0);
  INVARIANT(config->windows.size() == static_cast<size_t>(config->layers));
  INVARIANT(config->sparse.size() == static_cast<size_t>(config->layers));
  INVARIANT(!config->bos || (*config->bos >= 0 && *config->bos < config->vocab));
  return 0;
}
