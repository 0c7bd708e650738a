#include "checkpoint/gguf_vocabulary.h"

#include <utility>

#include "base/status.h"
#include "checkpoint/gguf_special_tokens.h"
#include "checkpoint/gguf_split_rules.h"
#include "checkpoint/sentence_piece_scores.h"
#include "checkpoint/token_table.h"
#include "checkpoint/tokenizer_fields.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr std::string_view kBlank = "\u2581";  // stands for a space in SentencePiece

void AddTokens(const TokenTable& table, GgufPairs& pairs) {
  pairs.Add("tokenizer.ggml.tokens", absl::MakeConstSpan(table.tokens()));
  pairs.Add("tokenizer.ggml.token_type", absl::MakeConstSpan(table.types()));
}

absl::Status AddByteLevel(const Json& document, const TokenTable& table, GgufPairs& pairs,
                          std::vector<std::string>& notes) {
  const Json split = MemberOf(document, "pre_tokenizer");
  const Json ignore_merges = MemberOf(MemberOf(document, "model"), "ignore_merges", false);
  const GgufSplitRule* rule = FindGgufSplitRule(split, ignore_merges == true);
  if (rule == nullptr) {
    return NotForGguf(fmt::format(
        "no rule that llama.cpp has a name for splits words as its pre_tokenizer does: {}",
        split.dump()));
  }
  const Json normalizer = MemberOf(document, "normalizer");
  const bool composes = rule->composes && TextOf(normalizer, "type") == "NFC";
  if (!normalizer.is_null() && !composes) {
    return NotForGguf(fmt::format("it changes a text before splitting it: {}", normalizer.dump()));
  }
  if (composes) {
    notes.emplace_back("tokenizer.json composes characters (NFC), llama.cpp does not");
  }
  if (table.missing_bytes() > 0) {
    notes.push_back(
        fmt::format("{} bytes that stand in no text of today (control characters, "
                    "planes without characters) have no token: what stands around one "
                    "is joined by tokenizer.json, not by llama.cpp",
                    table.missing_bytes()));
  }
  pairs.Add("tokenizer.ggml.model", std::string_view("gpt2"));
  pairs.Add("tokenizer.ggml.pre", rule->name);
  AddTokens(table, pairs);
  pairs.Add("tokenizer.ggml.merges", absl::MakeConstSpan(table.merges()));
  pairs.Add("tokenizer.ggml.add_space_prefix", false);
  return absl::OkStatus();
}

// Whether a blank is put before every text; every space must become one.
absl::StatusOr<bool> HasPrefix(const Json& document) {
  const Json blanks = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBlank}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", kBlank}};
  const Json normalizer = MemberOf(document, "normalizer");
  const Json steps = TextOf(normalizer, "type") == "Sequence" ? MemberOf(normalizer, "normalizers")
                                                              : Json::array({normalizer});
  const Json split = MemberOf(document, "pre_tokenizer");
  if (split.is_null() && steps == Json::array({blanks})) return false;
  if (split.is_null() && steps == Json::array({prepend, blanks})) return true;
  return NotForGguf(fmt::format("its normalizer and pre_tokenizer are not SentencePiece's: {}, {}",
                                normalizer.dump(), split.dump()));
}

absl::Status AddSentencePiece(const Json& document, const TokenTable& table, GgufPairs& pairs) {
  ASSIGN_OR_RETURN(const bool prefix, HasPrefix(document));
  if (MemberOf(MemberOf(document, "model"), "ignore_merges", false) != false) {
    return NotForGguf("words that are tokens are not merged, which SentencePiece does");
  }
  std::vector<TokenMerge> merges;
  for (const std::string_view merge : table.merges()) {
    const size_t space = merge.find(' ');
    merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  std::vector<bool> plain;
  for (const int32_t type : table.types()) plain.push_back(type == kNormal);
  ASSIGN_OR_RETURN(const std::vector<float> scores,
                   SentencePieceScores(table.tokens(), plain, merges));
  pairs.Add("tokenizer.ggml.model", std::string_view("llama"));
  AddTokens(table, pairs);
  pairs.Add("tokenizer.ggml.scores", absl::MakeConstSpan(scores));
  pairs.Add("tokenizer.ggml.add_space_prefix", prefix);
  return absl::OkStatus();
}

}  // namespace

absl::Status AddGgufVocabulary(const TokenizerFiles& files, int64_t rows, GgufPairs& pairs,
                               std::vector<std::string>& notes) {
  ASSIGN_OR_RETURN(const Json document,
                   ParseJson(kTokenizerFile, files.tokenizer, Reason::kTokenizerInvalid));
  ASSIGN_OR_RETURN(const Json config,
                   ParseJson("config.json", files.config, Reason::kConfigInvalid));
  Json settings = Json::object();
  if (!files.settings.empty()) {
    ASSIGN_OR_RETURN(settings,
                     ParseJson("tokenizer_config.json", files.settings, Reason::kTokenizerInvalid));
  }
  ASSIGN_OR_RETURN(const TokenTable table, TokenTable::Read(document, rows));
  RETURN_IF_ERROR(table.byte_fallback() ? AddSentencePiece(document, table, pairs)
                                        : AddByteLevel(document, table, pairs, notes));
  RETURN_IF_ERROR(AddGgufSpecialTokens(document, settings, config, table, pairs));
  AddGgufChatTemplate(files.chat_template, settings, pairs);
  return absl::OkStatus();
}

}  // namespace linchpin
