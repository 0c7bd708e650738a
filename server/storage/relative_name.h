// What a file may be called within an output: the one rule for every store.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace linchpin {

// PATH_NOT_ALLOWED unless `name` is relative, not empty, without NUL, and all
// of its components are other than empty, "." and "..".
absl::Status CheckRelativeName(std::string_view name);

}  // namespace linchpin
