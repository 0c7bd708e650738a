// The input is a tokenizer.json and, after a NUL byte, a text to encode.
//
// The same text gives the same ids, a text does not cost more than its length asks for,
// and where a vocabulary has a token for every byte, the tokens' bytes are the text's.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "checkpoint/pre_tokenizer.h"
#include "checkpoint/tokenizer.h"
#include "format/json.h"
#include "tests/fuzz/allocated_bytes.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

namespace {

using linchpin::Json;

// A pattern may use its steps for every match (kMatchLimit of pre_tokenizer.cc), of which
// a text has as many as characters: few, so that no input takes seconds.
constexpr size_t kLongestText = 64;

// The bytes that a token stands for, by id; none where `document` leaves a doubt: more
// than bytes and merges, a byte without a token, an id that two tokens have.
std::optional<std::map<int32_t, std::string>> BytesByToken(const Json& document) {
  static const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  if (document.value("normalizer", Json()) != Json() ||
      document.value("pre_tokenizer", Json()) != byte_level ||
      document.value("added_tokens", Json::array()) != Json::array()) {
    return std::nullopt;
  }
  const Json& vocabulary = document["model"]["vocab"];
  static const auto& characters = *new auto(linchpin::ByteCharacters());
  for (const std::string& character : characters) {
    if (!vocabulary.contains(character)) return std::nullopt;
  }
  std::map<int32_t, std::string> tokens;
  for (const auto& [token, id] : vocabulary.items()) {
    std::string bytes;
    for (std::string_view rest = token; !rest.empty();) {
      const auto character = rest.substr(0, linchpin::Utf8Length(rest));
      rest.remove_prefix(character.size());
      const auto found = std::find(characters.begin(), characters.end(), character);
      if (found != characters.end()) bytes += static_cast<char>(found - characters.begin());
    }
    if (!tokens.emplace(id.get<int32_t>(), bytes).second) return std::nullopt;
  }
  return tokens;
}

void CheckRoundTrip(std::string_view json, std::string_view text, const std::vector<int32_t>& ids) {
  const auto document = linchpin::ParseJson("fuzz", json, linchpin::Reason::kTokenizerInvalid);
  INVARIANT(document.ok());
  const auto tokens = BytesByToken(*document);
  if (!tokens) return;
  std::string decoded;
  for (const int32_t id : ids) decoded += tokens->at(id);
  INVARIANT(decoded == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = PartsOf<2>(TextOf(data, size));
  const std::string_view text = parts[1].substr(0, kLongestText);
  const auto tokenizer = linchpin::Tokenizer::Parse("fuzz", parts[0]);
  if (!tokenizer.ok()) return 0;
  const AllocatedBytes allocated;
  const auto ids = tokenizer->Encode(text);
  if (!ids.ok()) return 0;
  for (const int32_t id : *ids) INVARIANT(id >= 0);
  INVARIANT(*ids == *tokenizer->Encode(text));
  CheckRoundTrip(parts[0], text, *ids);
  return 0;
}
