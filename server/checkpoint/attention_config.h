// The parts of a `config.json` that say what attention sees.
#pragma once

#include "absl/status/status.h"
#include "checkpoint/config_fields.h"
#include "checkpoint/model_config.h"

namespace linchpin {

// Fills windows, scale, caps, clipping and biases of `config`, whose shape and
// architecture are known.  Errors as ModelConfig::Parse.
absl::Status ParseAttention(const ConfigFields& fields, ModelConfig& config);

}  // namespace linchpin
