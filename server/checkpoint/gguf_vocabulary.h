// A tokenizer.json as the keys of a GGUF file: what gguf_tokenizer.h reads, in the
// other direction.
//
// A vocabulary is written only where llama.cpp then cuts every text as the
// tokenizers library does: byte-level encodings whose split is a known rule's
// (gguf_split_rules.h), and SentencePiece encodings whose merges follow from scores
// (sentence_piece_scores.h).  Anything else is refused with what stands in the way.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "format/gguf_layout.h"

namespace linchpin {

struct TokenizerFiles {
  std::string tokenizer;      // tokenizer.json
  std::string settings;       // tokenizer_config.json; empty: there is none
  std::string chat_template;  // chat_template.jinja; empty: there is none
  std::string config;         // config.json
};

// Adds all keys of the tokenizer for a model whose embedding has `rows`: tokens
// beyond those of the tokenizer are padding.  `notes` gains what a person should
// know.  TOKENIZER_INVALID for a malformed file; the errors of NotForGguf.
absl::Status AddGgufVocabulary(const TokenizerFiles& files, int64_t rows, GgufPairs& pairs,
                               std::vector<std::string>& notes);

}  // namespace linchpin
