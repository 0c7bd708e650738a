#include "checkpoint/tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "checkpoint/byte_pair_encoder.h"
#include "checkpoint/pre_tokenizer.h"
#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {
namespace {

absl::Status Invalid(std::string_view file, std::string_view why) {
  return Error(Reason::kTokenizerInvalid, file, why, kMalformedRemedy);
}

absl::Status Unsupported(std::string_view file, std::string_view what) {
  return Error(Reason::kFeatureUnsupported, file, fmt::format("{} is not built", what), kGiveIds);
}

const Json* Member(const Json& object, const char* key) {
  const auto member = object.find(key);
  return member == object.end() || member->is_null() ? nullptr : &*member;
}

std::optional<std::string> Text(const Json& object, const char* key) {
  const Json* member = object.is_object() ? Member(object, key) : nullptr;
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return member->get<std::string>();
}

void ReplaceAll(std::string& text, const std::string& from, const std::string& to) {
  std::string result;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, done)) {
    result.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  text = result.append(text, done, std::string::npos);
}

// The `normalizer`: Prepend and Replace, alone or in a Sequence.
class TextNormalizer {
 public:
  absl::Status Add(std::string_view file, const Json& json) {
    const std::string type = Text(json, "type").value_or("");
    if (type == "Prepend") return AddPrepend(file, json);
    if (type == "Replace") return AddReplace(file, json);
    if (type != "Sequence") return Unsupported(file, fmt::format("normalizer \"{}\"", type));
    const Json* members = Member(json, "normalizers");
    if (members == nullptr || !members->is_array()) {
      return Invalid(file, "normalizer Sequence: normalizers is missing or not an array");
    }
    for (const Json& member : *members) RETURN_IF_ERROR(Add(file, member));
    return absl::OkStatus();
  }

  std::string Apply(std::string text) const {
    for (const auto& [from, to] : steps_) {
      if (!from.empty()) {
        ReplaceAll(text, from, to);
      } else if (!text.empty()) {
        text.insert(0, to);
      }
    }
    return text;
  }

 private:
  absl::Status AddPrepend(std::string_view file, const Json& json) {
    const auto prefix = Text(json, "prepend");
    if (!prefix) return Invalid(file, "normalizer Prepend: prepend is missing or not a string");
    steps_.emplace_back("", *prefix);
    return absl::OkStatus();
  }

  absl::Status AddReplace(std::string_view file, const Json& json) {
    const Json* pattern = Member(json, "pattern");
    const auto from = pattern == nullptr ? std::nullopt : Text(*pattern, "String");
    const auto to = Text(json, "content");
    if (!from || from->empty()) {
      return Unsupported(file, "normalizer Replace of anything but a String");
    }
    if (!to) return Invalid(file, "normalizer Replace: content is missing or not a string");
    steps_.emplace_back(*from, *to);
    return absl::OkStatus();
  }

  // What is replaced by what; replacing nothing is prepending.
  std::vector<std::pair<std::string, std::string>> steps_;
};

// Tokens that are found in the text before anything is split: the leftmost
// first, the longest of those that start there.
class AddedTokens {
 public:
  void Add(std::string content, int32_t id) {
    auto& bucket = by_first_byte_[static_cast<unsigned char>(content.front())];
    const auto longer = [&](const auto& other) { return other.first.size() < content.size(); };
    bucket.emplace(std::find_if(bucket.begin(), bucket.end(), longer), content, id);
  }

  // Calls plain(text) and token(id) for the parts of `text` in their order.
  template <class Plain, class Token>
  absl::Status Split(std::string_view text, Plain plain, Token token) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const auto* found = FindAt(text.substr(at));
      if (found == nullptr) {
        ++at;
        continue;
      }
      RETURN_IF_ERROR(plain(text.substr(done, at - done)));
      token(found->second);
      done = at += found->first.size();
    }
    return plain(text.substr(done));
  }

 private:
  using Entry = std::pair<std::string, int32_t>;

  const Entry* FindAt(std::string_view text) const {
    for (const Entry& entry : by_first_byte_[static_cast<unsigned char>(text.front())]) {
      if (text.starts_with(entry.first)) return &entry;
    }
    return nullptr;
  }

  std::array<std::vector<Entry>, 256> by_first_byte_;  // longest first
};

}  // namespace

struct Tokenizer::Model {
  explicit Model(BytePairEncoder encoder, PreTokenizer pre_tokenizer)
      : encoder(std::move(encoder)), pre_tokenizer(std::move(pre_tokenizer)) {}

  absl::Status AddToken(std::string_view file, const Json& json);
  absl::Status EncodePlain(std::string_view text, std::vector<int32_t>& ids) const;

  TextNormalizer normalizer;
  BytePairEncoder encoder;
  PreTokenizer pre_tokenizer;
  AddedTokens raw_tokens;         // looked for in the text as given
  AddedTokens normalized_tokens;  // looked for after the normalizer
};

absl::Status Tokenizer::Model::AddToken(std::string_view file, const Json& json) {
  const auto content = Text(json, "content");
  if (!content || content->empty()) return Invalid(file, "an entry of added_tokens has no content");
  for (const char* key : {"single_word", "lstrip", "rstrip"}) {
    const Json* flag = Member(json, key);
    if (flag != nullptr && *flag != false) {
      return Unsupported(file, fmt::format("added token \"{}\" with {}", *content, key));
    }
  }
  const Json* given = Member(json, "id");
  if (given == nullptr || !given->is_number_unsigned() || given->get<uint64_t>() > INT32_MAX) {
    return Invalid(file, fmt::format("added token \"{}\" has no valid id", *content));
  }
  const int32_t id = encoder.Find(*content).value_or(given->get<int32_t>());
  const Json* normalized = Member(json, "normalized");
  if (normalized != nullptr && *normalized == true) {
    std::string pattern = normalizer.Apply(*content);
    if (!pattern.empty()) normalized_tokens.Add(std::move(pattern), id);
  } else {
    raw_tokens.Add(*content, id);
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::Model::EncodePlain(std::string_view text, std::vector<int32_t>& ids) const {
  const auto encode = [&](std::string_view part) -> absl::Status {
    ASSIGN_OR_RETURN(const std::vector<std::string> words, pre_tokenizer.Split(std::string(part)));
    for (const std::string& word : words) encoder.Encode(word, ids);
    return absl::OkStatus();
  };
  return normalized_tokens.Split(normalizer.Apply(std::string(text)), encode,
                                 [&ids](int32_t id) { ids.push_back(id); });
}

Tokenizer::Tokenizer(std::unique_ptr<Model> model) : model_(std::move(model)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<Tokenizer> Tokenizer::Parse(std::string_view file, std::string_view json) {
  ASSIGN_OR_RETURN(const Json document, ParseJson(file, json, Reason::kTokenizerInvalid));
  const Json* model_json = document.is_object() ? Member(document, "model") : nullptr;
  if (model_json == nullptr || !model_json->is_object()) {
    return Invalid(file, "model is missing or not an object");
  }
  ASSIGN_OR_RETURN(BytePairEncoder encoder, BytePairEncoder::Parse(file, *model_json));
  ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer,
                   PreTokenizer::Parse(file, Member(document, "pre_tokenizer")));
  auto model = std::make_unique<Model>(std::move(encoder), std::move(pre_tokenizer));
  if (const Json* normalizer = Member(document, "normalizer")) {
    RETURN_IF_ERROR(model->normalizer.Add(file, *normalizer));
  }
  if (const Json* added = Member(document, "added_tokens")) {
    if (!added->is_array()) return Invalid(file, "added_tokens is not an array");
    for (const Json& token : *added) RETURN_IF_ERROR(model->AddToken(file, token));
  }
  return Tokenizer(std::move(model));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text) const {
  constexpr size_t kLongestText = size_t{1} << 28;
  if (text.size() > kLongestText) {
    return Error(Reason::kTokensInvalid, "text",
                 fmt::format("{} bytes, more than {}", text.size(), kLongestText), "shorten it");
  }
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) {
      return Error(Reason::kTokensInvalid, "text", fmt::format("byte {} is not UTF-8", at),
                   "give it as UTF-8");
    }
    at += length;
  }
  std::vector<int32_t> ids;
  RETURN_IF_ERROR(model_->raw_tokens.Split(
      text, [&](std::string_view part) { return model_->EncodePlain(part, ids); },
      [&ids](int32_t id) { ids.push_back(id); }));
  return ids;
}

}  // namespace linchpin
