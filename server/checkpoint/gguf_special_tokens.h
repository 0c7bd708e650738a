// What a tokenizer's files say about the tokens around a text and its turns, as the
// keys of a GGUF file.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "checkpoint/token_table.h"
#include "format/gguf_layout.h"
#include "format/json.h"

namespace linchpin {

// Ids by tokenizer_config.json, else by config.json; whether a text is begun and
// ended with them by the post_processor of tokenizer.json.  The errors of
// NotForGguf, also where tokenizer_config.json says otherwise.
absl::Status AddGgufSpecialTokens(const Json& document, const Json& settings, const Json& config,
                                  const TokenTable& table, GgufPairs& pairs);

// `text` (a file of its own, empty where there is none), else the one of
// tokenizer_config.json, where several are named the default.
void AddGgufChatTemplate(std::string_view text, const Json& settings, GgufPairs& pairs);

}  // namespace linchpin
