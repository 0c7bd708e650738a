// Lenient access to the members of a tokenizer's JSON files, which no schema fixes.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "format/json.h"

namespace linchpin {

inline constexpr const char* kTokenizerFile = "tokenizer.json";

// A member; `otherwise` where it is absent or null, or `object` is no object.
Json MemberOf(const Json& object, const char* key, Json otherwise = nullptr);

// A member that is a text, else empty.
std::string TextOf(const Json& object, const char* key);

// FEATURE_UNSUPPORTED: `why` a tokenizer.json has no place in a GGUF file.
absl::Status NotForGguf(std::string_view why);

}  // namespace linchpin
