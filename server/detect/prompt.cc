#include "detect/prompt.h"

#include <algorithm>
#include <utility>

namespace linchpin {

std::vector<int32_t> FixedIds(const ModelConfig& config, int64_t length, uint64_t first) {
  if (config.max_positions > 0) length = std::min(length, config.max_positions);
  std::vector<int32_t> ids;
  if (config.bos) ids.push_back(static_cast<int32_t>(*config.bos));
  // Steps of the golden ratio spread evenly over any range; the low ids, often
  // special tokens and raw bytes, come up no more than others.
  for (uint64_t i = first + 1; std::cmp_less(ids.size(), length); ++i) {
    const uint64_t fraction = i * 0x9e3779b97f4a7c15ULL;
    ids.push_back(
        static_cast<int32_t>((fraction >> 32) * static_cast<uint64_t>(config.vocab) >> 32));
  }
  return ids;
}

std::vector<int32_t> DefaultPrompt(const ModelConfig& config) {
  return FixedIds(config, kDefaultPromptTokens, 0);
}

}  // namespace linchpin
