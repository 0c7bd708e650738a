// The tokenizer.json that a GGUF file's model had, from its vocabulary.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "checkpoint/gguf_fields.h"

namespace linchpin {

// Byte-level encodings ("gpt2") whose split pattern has a known name, and
// SentencePiece encodings ("llama"), whose merges follow from the scores.
// FEATURE_UNSUPPORTED naming any other; TOKENIZER_INVALID for a vocabulary that
// is not one; SOURCE_NOT_FOUND where the file has none.
absl::StatusOr<std::string> GgufTokenizerJson(const GgufFields& fields);

}  // namespace linchpin
