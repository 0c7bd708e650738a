// Which token ids a model can run.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "checkpoint/model_config.h"

namespace linchpin {

// TOKENS_INVALID for an empty sequence, an id outside the vocabulary or more
// tokens than the model has positions.
absl::Status CheckTokenIds(absl::Span<const int32_t> ids, const ModelConfig& config);

}  // namespace linchpin
