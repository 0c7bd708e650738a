#include "checkpoint/gguf_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "checkpoint/gguf_split_rules.h"
#include "checkpoint/tokenizer.h"
#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {
namespace {

// tokenizer.ggml.token_type
constexpr int64_t kUnknown = 2;
constexpr int64_t kControl = 3;
constexpr int64_t kUserDefined = 4;
// No published vocabulary comes near; they bound the search for merges.
constexpr size_t kLongestToken = 1024;
constexpr size_t kLongestJoined = 256;
constexpr size_t kMaxMergeBytes = size_t{1} << 26;

int64_t Characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

class TokenizerWriter {
 public:
  explicit TokenizerWriter(const GgufFields& fields) : fields_(fields) {}

  absl::StatusOr<Json> Write() {
    ASSIGN_OR_RETURN(const auto model, fields_.Text("tokenizer.ggml.model"));
    if (!model || *model == "none") {
      return Error(Reason::kSourceNotFound, fields_.file(),
                   "it has no vocabulary, so that text cannot be read", kGiveIds);
    }
    RETURN_IF_ERROR(ReadTokens());
    if (*model == "gpt2") return ByteLevel();
    if (*model == "llama") return SentencePiece();
    return Unsupported("tokenizer.ggml.model", *model);
  }

 private:
  absl::Status Unsupported(std::string_view key, std::string_view value) const {
    return Error(Reason::kFeatureUnsupported, fields_.file(),
                 fmt::format("{} \"{}\" is not built", key, value), kGiveIds);
  }

  absl::Status Invalid(std::string_view key, std::string_view why) const {
    return Error(Reason::kTokenizerInvalid, fields_.file(), fmt::format("{} {}", key, why),
                 kMalformedRemedy);
  }

  absl::StatusOr<std::vector<std::string_view>> Strings(std::string_view key) const {
    ASSIGN_OR_RETURN(const auto array, fields_.Array(key));
    auto strings = array ? array->Strings() : std::nullopt;
    if (!strings) return Invalid(key, "is missing or no list of strings");
    for (const std::string_view text : *strings) {
      for (std::string_view rest = text; !rest.empty();) {
        const size_t length = Utf8Length(rest);
        if (length == 0) return Invalid(key, "holds a string that is not UTF-8");
        rest.remove_prefix(length);
      }
    }
    return *std::move(strings);
  }

  absl::Status ReadTokens() {
    constexpr std::string_view kKey = "tokenizer.ggml.tokens";
    ASSIGN_OR_RETURN(tokens_, Strings(kKey));
    ids_.reserve(tokens_.size());
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (tokens_[id].size() > kLongestToken) {
        return Invalid(kKey, fmt::format("holds a token of more than {} bytes", kLongestToken));
      }
      if (!ids_.emplace(tokens_[id], id).second) {
        return Invalid(kKey, fmt::format("holds \"{}\" twice", tokens_[id]));
      }
    }
    ASSIGN_OR_RETURN(const auto types, fields_.Array("tokenizer.ggml.token_type"));
    if (!types) return absl::OkStatus();
    const auto numbers = types->Integers();
    if (!numbers || numbers->size() != tokens_.size()) {
      return Invalid("tokenizer.ggml.token_type", "must be a number for every token");
    }
    types_ = *numbers;
    return absl::OkStatus();
  }

  Json Vocabulary() const {
    Json vocabulary = Json::object();
    // Not by its operator[], which looks through all of it.
    auto& members = vocabulary.get_ref<Json::object_t&>();
    using Members = Json::object_t::Container;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      static_cast<Members&>(members).emplace_back(std::string(tokens_[id]), id);
    }
    return vocabulary;
  }

  Json AddedTokens() const {
    Json added = Json::array();
    for (size_t id = 0; id < types_.size(); ++id) {
      const bool found_whole =
          types_[id] == kUnknown || types_[id] == kControl || types_[id] == kUserDefined;
      if (!found_whole || tokens_[id].empty()) continue;
      added.push_back({{"id", id},
                       {"content", tokens_[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types_[id] != kUserDefined}});
    }
    return added;
  }

  absl::StatusOr<Json> ByteLevel() const {
    ASSIGN_OR_RETURN(const auto name, fields_.Text("tokenizer.ggml.pre"));
    if (!name) return Unsupported("tokenizer.ggml.pre", "");
    const GgufSplitRule* rule = FindGgufSplitRule(*name);
    if (rule == nullptr) return Unsupported("tokenizer.ggml.pre", *name);
    ASSIGN_OR_RETURN(const auto prefix, fields_.Quantity("tokenizer.ggml.add_space_prefix"));
    if (prefix.value_or(0) != 0) {
      return Unsupported("tokenizer.ggml.add_space_prefix", "true");
    }
    ASSIGN_OR_RETURN(const auto merges, Strings("tokenizer.ggml.merges"));
    Json list = Json::array();
    for (const std::string_view merge : merges) list.push_back(merge);
    return Json{{"added_tokens", AddedTokens()},
                {"pre_tokenizer", PreTokenizerOf(*rule)},
                {"decoder",
                 {{"type", "ByteLevel"},
                  {"add_prefix_space", true},
                  {"trim_offsets", true},
                  {"use_regex", true}}},
                {"model",
                 {{"type", "BPE"},
                  {"ignore_merges", rule->ignore_merges},
                  {"vocab", Vocabulary()},
                  {"merges", std::move(list)}}}};
  }

  absl::StatusOr<Json> SentencePiece() const {
    ASSIGN_OR_RETURN(const auto prefix, fields_.Quantity("tokenizer.ggml.add_space_prefix"));
    ASSIGN_OR_RETURN(const auto unknown, fields_.Integer("tokenizer.ggml.unknown_token_id"));
    ASSIGN_OR_RETURN(Json merges, MergesByScore());
    Json steps = Json::array();
    if (prefix.value_or(1) != 0) steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
    Json model = {{"type", "BPE"},
                  {"byte_fallback", true},
                  {"fuse_unk", true},
                  {"vocab", Vocabulary()},
                  {"merges", std::move(merges)}};
    if (unknown && std::cmp_less(*unknown, tokens_.size())) {
      model["unk_token"] = tokens_[static_cast<size_t>(*unknown)];
    }
    return Json{{"added_tokens", AddedTokens()},
                {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(steps)}}},
                {"decoder",
                 {{"type", "Sequence"},
                  {"decoders",
                   {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                    {{"type", "ByteFallback"}},
                    {{"type", "Fuse"}},
                    {{"type", "Strip"},
                     {"content", " "},
                     {"start", prefix.value_or(1) != 0 ? 1 : 0},
                     {"stop", 0}}}}}},
                {"model", std::move(model)}};
  }

  struct Merge {
    double score;  // of what it makes
    std::string_view left, right;
    size_t left_id, right_id;
  };

  // All pairs of tokens that make a token, the best score first: SentencePiece
  // joins the neighbours that make the best token, and so do these by their rank.
  // Equal scores in the order in which transformers ranks them.
  absl::StatusOr<Json> MergesByScore() const {
    ASSIGN_OR_RETURN(const auto array, fields_.Array("tokenizer.ggml.scores"));
    const auto scores = array ? array->Numbers() : std::nullopt;
    const auto is_nan = [](double score) { return std::isnan(score); };
    if (!scores || scores->size() != tokens_.size() ||
        std::any_of(scores->begin(), scores->end(), is_nan)) {
      return Invalid("tokenizer.ggml.scores", "must be a number for every token");
    }
    std::vector<Merge> merges;
    size_t bytes = 0;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const size_t before = merges.size();
      if (id < types_.size() && types_[id] == kControl) continue;  // never made by joining
      if (tokens_[id].size() > kLongestJoined) {
        return Invalid("tokenizer.ggml.tokens",
                       fmt::format("holds one of more than {} bytes to join", kLongestJoined));
      }
      AddMerges(id, (*scores)[id], merges);
      bytes += (merges.size() - before) * (tokens_[id].size() + sizeof(Json));
      if (bytes > kMaxMergeBytes) {
        return Invalid("tokenizer.ggml.tokens", "join in too many ways");
      }
    }
    std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
      return std::tuple(-a.score, Characters(b.left), Characters(b.right)) <
             std::tuple(-b.score, Characters(a.left), Characters(a.right));
    });
    Json list = Json::array();
    for (const Merge& merge : merges) list.push_back({merge.left, merge.right});
    return list;
  }

  // The ways to make one token, by the ids of its parts.
  void AddMerges(size_t id, double score, std::vector<Merge>& merges) const {
    const std::string_view token = tokens_[id];
    const size_t before = merges.size();
    for (size_t at = 1; at < token.size(); ++at) {
      const auto left = ids_.find(token.substr(0, at));
      if (left == ids_.end()) continue;
      const auto right = ids_.find(token.substr(at));
      if (right == ids_.end()) continue;
      merges.push_back({score, left->first, right->first, left->second, right->second});
    }
    std::sort(merges.begin() + static_cast<int64_t>(before), merges.end(),
              [](const Merge& a, const Merge& b) {
                return std::pair(a.left_id, a.right_id) < std::pair(b.left_id, b.right_id);
              });
  }

  const GgufFields& fields_;
  std::vector<std::string_view> tokens_;
  std::vector<int64_t> types_;  // one per token, or none
  std::unordered_map<std::string_view, size_t> ids_;
};

}  // namespace

absl::StatusOr<std::string> GgufTokenizerJson(const GgufFields& fields) {
  ASSIGN_OR_RETURN(const Json document, TokenizerWriter(fields).Write());
  return document.dump();
}

}  // namespace linchpin
