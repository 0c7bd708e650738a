// Token ids that need no tokenizer, the same for every call.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/model_config.h"

namespace linchpin {

// BOS, where the model has one, and ids spread over the vocabulary, `length` in
// all; never longer than the model has positions.  Another `first` gives other ids.
std::vector<int32_t> FixedIds(const ModelConfig& config, int64_t length, uint64_t first);

// Long enough to measure an activation against ordinary ones; short, because a
// trace keeps all of them.
inline constexpr int64_t kDefaultPromptTokens = 16;

// The tokens that a detection runs when none are given.  A super activation
// stands at the first token whatever follows; the others are there to measure it
// against.
std::vector<int32_t> DefaultPrompt(const ModelConfig& config);

}  // namespace linchpin
