// Strict JSON: what a hostile file may not do to us.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace linchpin {

// Keeps the order of keys, so that a file that is carried over stays readable as a diff.
using Json = nlohmann::ordered_json;

// Parses one whole document.  Refused with `reason`, naming `file` and the byte
// where it stands: malformed text, trailing bytes, invalid UTF-8, a duplicate
// key within one object, nesting deeper than 64.  Never throws.
absl::StatusOr<Json> ParseJson(std::string_view file, std::string_view text, Reason reason);

}  // namespace linchpin
