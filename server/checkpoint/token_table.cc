#include "checkpoint/token_table.h"

#include <unordered_set>
#include <utility>

#include "base/status.h"
#include "checkpoint/added_token_check.h"
#include "checkpoint/pre_tokenizer.h"
#include "checkpoint/tokenizer_fields.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

absl::Status Invalid(std::string_view why) {
  return Error(Reason::kTokenizerInvalid, kTokenizerFile, why, kMalformedRemedy);
}

absl::Status CheckModel(const Json& model) {
  if (model.contains("type") && TextOf(model, "type") != "BPE") {
    return NotForGguf(fmt::format("its model is a {}", TextOf(model, "type")));
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json value = MemberOf(model, key);
    if (value.is_null() || value == 0 || value == Json("")) continue;
    return NotForGguf(fmt::format("its model has {}", key));
  }
  return absl::OkStatus();
}

// "left right"; empty for what is not of two words.
std::string PairText(const Json& merge) {
  std::string text = merge.is_string() ? merge.get<std::string>() : "";
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    text = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const size_t space = text.find(' ');
  const bool two = space != std::string::npos && space > 0 && space + 1 < text.size() &&
                   text.find(' ', space + 1) == std::string::npos;
  return two ? text : "";
}

// What no text of today holds: control characters but for those that end lines,
// what no UTF-8 has, and the first bytes of planes without characters.
bool IsRare(size_t byte) {
  const bool ends_lines = byte >= '\t' && byte <= '\r';
  const bool control = (byte < ' ' && !ends_lines) || byte == 0x7f;
  return control || byte == 0xc0 || byte == 0xc1 || byte == 0xf1 || byte == 0xf2 || byte >= 0xf5;
}

}  // namespace

std::optional<uint32_t> TokenTable::Find(const std::string& token) const {
  const auto id = ids_.find(token);
  return id == ids_.end() ? std::nullopt : std::optional(id->second);
}

absl::StatusOr<TokenTable> TokenTable::Read(const Json& document, int64_t rows) {
  const Json model = MemberOf(document, "model");
  if (!model.is_object()) return Invalid("model is missing or not an object");
  RETURN_IF_ERROR(CheckModel(model));
  TokenTable table;
  table.byte_fallback_ = MemberOf(model, "byte_fallback", false) == true;
  table.tokens_.resize(static_cast<size_t>(rows));
  table.types_.assign(table.tokens_.size(), kUnused);
  RETURN_IF_ERROR(table.ReadVocabulary(model));
  RETURN_IF_ERROR(table.ReadAddedTokens(document));
  RETURN_IF_ERROR(table.byte_fallback_ ? table.MarkBytes()
                                       : table.CheckBytes(!MemberOf(model, "unk_token").is_null()));
  RETURN_IF_ERROR(table.FillHoles());
  RETURN_IF_ERROR(table.ReadMerges(model));
  return table;
}

absl::Status TokenTable::Place(const std::string& token, const Json& id, TokenType type) {
  if (!id.is_number_unsigned()) return Invalid(fmt::format("\"{}\" has no valid id", token));
  const auto at = id.get<uint64_t>();
  if (at >= tokens_.size()) {
    return NotForGguf(
        fmt::format("\"{}\" has the id {}, the embedding has {} rows", token, at, tokens_.size()));
  }
  const auto [known, is_new] = ids_.emplace(token, static_cast<uint32_t>(at));
  const bool is_free = types_[at] == kUnused || tokens_[at] == token;
  if (token.empty() || !is_free || (!is_new && known->second != at)) {
    return NotForGguf(fmt::format("\"{}\" has no id of its own", token));
  }
  tokens_[at] = token;
  types_[at] = type;
  return absl::OkStatus();
}

absl::Status TokenTable::ReadVocabulary(const Json& model) {
  const auto vocabulary = model.find("vocab");
  if (vocabulary == model.end() || !vocabulary->is_object()) {
    return Invalid("model.vocab is missing or not an object");
  }
  for (const auto& [token, id] : vocabulary->get_ref<const Json::object_t&>()) {
    RETURN_IF_ERROR(Place(token, id, kNormal));
  }
  return absl::OkStatus();
}

absl::Status TokenTable::ReadAddedTokens(const Json& document) {
  const Json added = MemberOf(document, "added_tokens", Json::array());
  if (!added.is_array()) return Invalid("added_tokens is not an array");
  const std::string unknown =
      byte_fallback_ ? TextOf(MemberOf(document, "model"), "unk_token") : "";
  std::vector<AddedToken> tokens;
  for (const Json& token : added) {
    const std::string content = TextOf(token, "content");
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      if (MemberOf(token, key, false) == false) continue;
      return NotForGguf(fmt::format("its added token \"{}\" has {}", content, key));
    }
    const bool normalized = MemberOf(token, "normalized", false) != false;
    if (byte_fallback_ && normalized) {
      return NotForGguf(
          fmt::format("its added token \"{}\" is looked for in normalized text", content));
    }
    const bool special = MemberOf(token, "special", false) == true;
    const TokenType type = content == unknown ? kUnknown : special ? kControl : kUserDefined;
    RETURN_IF_ERROR(Place(content, MemberOf(token, "id"), type));
    tokens.push_back({content, normalized});
  }
  return CheckAddedTokens(tokens);
}

// A byte without a token would be the unknown token here and nothing there.
absl::Status TokenTable::MarkBytes() {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token = fmt::format("<0x{:02X}>", byte);
    const auto id = Find(token);
    if (!id) return NotForGguf(fmt::format("it has no token {}", token));
    types_[*id] = kByte;
  }
  return absl::OkStatus();
}

absl::Status TokenTable::CheckBytes(bool has_unknown) {
  const auto characters = ByteCharacters();
  for (size_t byte = 0; byte < characters.size(); ++byte) {
    if (Find(characters[byte])) continue;
    if (!IsRare(byte) || has_unknown) {
      return NotForGguf(fmt::format("byte {:#04x} has no token", byte));
    }
    ++missing_bytes_;
  }
  return absl::OkStatus();
}

// Rows of the embedding that no token has, named as llama.cpp names them.
absl::Status TokenTable::FillHoles() {
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (types_[id] != kUnused) continue;
    tokens_[id] = fmt::format("[PAD{}]", id);
    if (Find(tokens_[id])) {
      return NotForGguf(fmt::format("it has a token {}, which stands for a hole", tokens_[id]));
    }
  }
  return absl::OkStatus();
}

absl::Status TokenTable::ReadMerges(const Json& model) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) {
    return Invalid("model.merges is missing or not an array");
  }
  std::unordered_set<std::string> seen;
  for (const Json& merge : *merges) {
    std::string text = PairText(merge);
    const size_t space = text.find(' ');
    const std::string left = text.substr(0, space);
    const std::string right = text.empty() ? "" : text.substr(space + 1);
    if (!Find(left) || !Find(right) || !Find(left + right) || !seen.insert(text).second) {
      return NotForGguf(
          fmt::format("its merge {} is not of two tokens that make one, or stands "
                      "twice",
                      merge.dump()));
    }
    merges_.push_back(std::move(text));
  }
  return absl::OkStatus();
}

}  // namespace linchpin
