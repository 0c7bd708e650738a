// The tokens that a detection runs when none are given.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/model_config.h"

namespace linchpin {

// BOS, where the model has one, and 15 ids spread over the vocabulary; the same
// for every call.  A super activation stands at the first token whatever
// follows; the others are there to measure it against.
std::vector<int32_t> DefaultPrompt(const ModelConfig& config);

}  // namespace linchpin
