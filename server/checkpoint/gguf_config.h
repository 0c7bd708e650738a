// The config.json that a GGUF file's model had, from its metadata.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/gguf_families.h"
#include "checkpoint/gguf_fields.h"
#include "checkpoint/gguf_rope.h"
#include "checkpoint/stored_tensor.h"

namespace linchpin {

// JSON in the dialect before transformers 5 that ModelConfig reads: equal in
// meaning to the model's own, though not in its words.  `tensors` are those of
// GgufTensors.  CONFIG_INVALID or FEATURE_UNSUPPORTED naming the file and the key.
absl::StatusOr<std::string> GgufConfig(const GgufFields& fields, const GgufFamily& family,
                                       const std::vector<StoredTensor>& tensors,
                                       const GgufRopeFactors& factors);

}  // namespace linchpin
