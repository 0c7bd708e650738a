// The settings of a model as the keys of a GGUF file: what gguf_config.h reads,
// in the other direction.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "checkpoint/gguf_families.h"
#include "checkpoint/model_config.h"
#include "format/gguf_layout.h"

namespace linchpin {

// The family of a config.json; FAMILY_UNSUPPORTED with those that there are.
absl::StatusOr<const GgufFamily*> GgufFamilyOf(const ModelConfig& config);

// Adds general.architecture and all keys of the family.  What the keys cannot say
// is left out: who writes a file compares what it is read as (config_difference.h).
// Factors of rotary frequencies are tensors, not keys (RopeDivisorsOf).
void AddGgufSettings(const ModelConfig& config, const GgufFamily& family, GgufPairs& pairs);

// How many channels of a head are rotated.
int64_t RotatedDimensions(const ModelConfig& config);

}  // namespace linchpin
