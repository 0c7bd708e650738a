// The rules by which byte-level tokenizers split words, and what llama.cpp calls
// each (tokenizer.ggml.pre), in both directions.
#pragma once

#include <string_view>

#include "format/json.h"

namespace linchpin {

struct GgufSplitRule {
  std::string_view name;
  std::string_view pre_tokenizer;  // JSON, as the models' own tokenizer.json have it
  std::string_view digits = "";    // in place of its @: how many a word may have
  bool ignore_merges = false;      // a word that is a token is not merged
  bool composes = false;           // their tokenizer.json normalizes to NFC, llama.cpp does not
};

// Null for a name that is not known.
const GgufSplitRule* FindGgufSplitRule(std::string_view name);

// The rule that splits exactly as the `pre_tokenizer` of a tokenizer.json does, of
// those that do the one that is named first; null where none is known.
const GgufSplitRule* FindGgufSplitRule(const Json& pre_tokenizer, bool ignore_merges);

Json PreTokenizerOf(const GgufSplitRule& rule);

}  // namespace linchpin
