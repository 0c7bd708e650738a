// Whether the order in which added tokens are looked for in a text matters.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace linchpin {

struct AddedToken {
  std::string content;
  bool normalized = false;  // looked for after those that are not
};

// llama.cpp finds the longest first, wherever it stands, the tokenizers library the
// leftmost: the same unless the end of one is the beginning of another, or one is
// part of another that is looked for later.  Runs of one character, of which either
// takes the longest from the left, may overlap.
// The errors of NotForGguf.
absl::Status CheckAddedTokens(const std::vector<AddedToken>& tokens);

}  // namespace linchpin
