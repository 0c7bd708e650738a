#include "checkpoint/added_token_check.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <unordered_map>

#include "checkpoint/tokenizer_fields.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr size_t kLongest = 256;  // bytes

bool IsRun(std::string_view token) {
  return token.find_first_not_of(token.front()) == std::string_view::npos;
}

absl::Status Overlap(const AddedToken& one, const AddedToken& other) {
  return NotForGguf(
      fmt::format("its added tokens \"{}\" and \"{}\" overlap", one.content, other.content));
}

// Of each beginning the tokens that go on from it: all that it takes to know
// whether there is another than a given one, and another that is no run.
using Beginnings = std::unordered_map<std::string_view, std::vector<size_t>>;

Beginnings BeginningsOf(const std::vector<AddedToken>& tokens) {
  constexpr size_t kEnough = 2;
  Beginnings beginnings;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i].content;
    for (size_t size = 1; size < token.size(); ++size) {
      std::vector<size_t>& some = beginnings[token.substr(0, size)];
      const auto alike = std::count_if(some.begin(), some.end(), [&](size_t k) {
        return IsRun(tokens[k].content) == IsRun(token);
      });
      if (static_cast<size_t>(alike) < kEnough) some.push_back(i);
    }
  }
  return beginnings;
}

// One of the earlier kind within one of the later.
absl::Status CheckKinds(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& first : tokens) {
    if (first.normalized) continue;
    for (const AddedToken& later : tokens) {
      if (later.normalized && later.content.find(first.content) != std::string::npos) {
        return Overlap(first, later);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAddedTokens(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    if (!token.content.empty() && token.content.size() <= kLongest) continue;
    return NotForGguf(fmt::format("it has an added token of {} bytes", token.content.size()));
  }
  const Beginnings beginnings = BeginningsOf(tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i].content;
    for (size_t at = 1; at < token.size(); ++at) {
      const auto found = beginnings.find(token.substr(at));
      if (found == beginnings.end()) continue;
      for (const size_t other : found->second) {
        const bool runs = IsRun(token) && IsRun(tokens[other].content);
        if (other != i && !runs) return Overlap(tokens[i], tokens[other]);
      }
    }
  }
  return CheckKinds(tokens);
}

}  // namespace linchpin
