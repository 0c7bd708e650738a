// The config.json of an output.
// Layout: https://github.com/vllm-project/compressed-tensors
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "format/json.h"
#include "quantize/plan.h"

namespace linchpin {

// The config.json of the checkpoint in the dtype of the plan: of a GGUF file with
// the names that loaders look for, of 8-bit weights without their quantization.
// CONFIG_INVALID for a text that is no JSON object.
absl::StatusOr<Json> PlainConfig(const Checkpoint& checkpoint, const Plan& plan);

// config.json with `quantization_config` for the plan.  CONFIG_INVALID for a
// text that is no JSON object, FEATURE_UNSUPPORTED where it has one already.
absl::StatusOr<Json> QuantizedConfig(std::string_view config_text, const Plan& plan);

}  // namespace linchpin
