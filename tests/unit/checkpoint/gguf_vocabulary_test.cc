#include "checkpoint/gguf_vocabulary.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "checkpoint/gguf_fields.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/pre_tokenizer.h"
#include "checkpoint/tokenizer.h"
#include "fmt/format.h"
#include "format/gguf.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// All bytes, the merges of two words and a mark at either end of a text.
Json ByteLevelDocument() {
  Json vocabulary = Json::object();
  vocabulary["<s>"] = 0;
  vocabulary["</s>"] = 1;
  int id = 2;
  for (const std::string& character : ByteCharacters()) vocabulary[character] = id++;
  for (const char* token : {"he", "the", "an"}) vocabulary[token] = id++;
  Json document = Json::parse(R"({
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
       "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}]},
    "added_tokens": [{"id": 0, "content": "<s>", "special": true},
                     {"id": 1, "content": "</s>", "special": true}],
    "model": {"type": "BPE", "merges": ["h e", ["t", "he"], "a n"]}})");
  document["model"]["vocab"] = vocabulary;
  return document;
}

// Blanks, all bytes and what can be made of a, b and a blank.
Json SentencePieceDocument() {
  Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  int id = 259;
  for (const char* token : {"\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"}) {
    vocabulary[token] = id++;
  }
  Json document = Json::parse(R"({
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                     {"id": 1, "content": "<s>", "special": true}],
    "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "fuse_unk": true,
              "merges": ["\u2581 a", "a b", "\u2581a b", "\u2581 ab"]}})");
  document["model"]["vocab"] = vocabulary;
  return document;
}

struct Written {
  absl::Status status;
  std::vector<std::string> notes;
  std::string header;  // that the fields view
  GgufHeader parsed;
  const GgufValue& At(std::string_view key) const { return parsed.metadata.at(key); }
  bool Has(std::string_view key) const { return parsed.metadata.contains(key); }
};

constexpr int64_t kRows = 270;

std::unique_ptr<Written> Write(const Json& document, const Json& settings = Json::object(),
                               const std::string& chat_template = "") {
  auto written = std::make_unique<Written>();
  const TokenizerFiles files{document.dump(), settings.dump(), chat_template,
                             R"({"bos_token_id": 0, "eos_token_id": [1, 3]})"};
  GgufPairs pairs;
  written->status = AddGgufVocabulary(files, kRows, pairs, written->notes);
  if (!written->status.ok()) return written;
  const auto layout = LayOutGguf("m.gguf", pairs.views(), {});
  EXPECT_TRUE(layout.ok()) << layout.status();
  written->header = layout->header;
  auto parsed = ParseGgufHeader("m.gguf", written->header, layout->file_size);
  EXPECT_TRUE(parsed.ok() && *parsed) << parsed.status();
  written->parsed = **std::move(parsed);
  return written;
}

// What our own reader makes of what was written cuts texts as the source does.
void ExpectSameIds(const Json& document, const std::vector<std::string>& texts) {
  const auto written = Write(document);
  ASSERT_TRUE(written->status.ok()) << written->status;
  const auto text = GgufTokenizerJson(GgufFields("m.gguf", written->parsed));
  ASSERT_TRUE(text.ok()) << text.status();
  const auto mine = Tokenizer::Parse("mine", *text);
  const auto source = Tokenizer::Parse("source", document.dump());
  ASSERT_TRUE(mine.ok() && source.ok()) << mine.status() << source.status();
  for (const std::string& each : texts)
    EXPECT_EQ(*mine->Encode(each), *source->Encode(each)) << each;
}

TEST(GgufVocabularyTest, ByteLevelTokensAreReadBackAsTheyWere) {
  ExpectSameIds(ByteLevelDocument(), {"the hand", "", "\n\n a", "<s>the</s>", "na\u00efve 12"});
}

TEST(GgufVocabularyTest, SentencePieceTokensAreReadBackAsTheyWere) {
  ExpectSameIds(SentencePieceDocument(), {"ab", " ab a b", "", "c\n", "<s>ab", "\u2581ab"});
}

TEST(GgufVocabularyTest, EveryKeyThatLlamaCppNeedsIsThere) {
  const auto written = Write(ByteLevelDocument());
  ASSERT_TRUE(written->status.ok()) << written->status;
  EXPECT_EQ(std::get<std::string_view>(written->At("tokenizer.ggml.model")), "gpt2");
  EXPECT_EQ(std::get<std::string_view>(written->At("tokenizer.ggml.pre")), "gpt-2");
  const auto tokens = std::get<GgufArray>(written->At("tokenizer.ggml.tokens")).Strings();
  ASSERT_THAT(*tokens, SizeIs(kRows));
  EXPECT_EQ(tokens->at(kRows - 1), "[PAD269]");
  const auto types = std::get<GgufArray>(written->At("tokenizer.ggml.token_type")).Integers();
  EXPECT_EQ(types->at(0), 3);
  EXPECT_EQ(types->at(2), 1);
  EXPECT_EQ(types->at(kRows - 1), 5);
  const auto merges = std::get<GgufArray>(written->At("tokenizer.ggml.merges")).Strings();
  EXPECT_THAT(*merges, ElementsAre("h e", "t he", "a n"));
  EXPECT_EQ(std::get<uint64_t>(written->At("tokenizer.ggml.eos_token_id")), 1U);
  EXPECT_TRUE(std::get<bool>(written->At("tokenizer.ggml.add_bos_token")));
  EXPECT_FALSE(std::get<bool>(written->At("tokenizer.ggml.add_eos_token")));
  EXPECT_FALSE(written->Has("tokenizer.chat_template"));
  EXPECT_THAT(written->notes, IsEmpty());
}

TEST(GgufVocabularyTest, ScoresFallInTheOrderOfTheMerges) {
  const auto written = Write(SentencePieceDocument());
  ASSERT_TRUE(written->status.ok()) << written->status;
  const auto scores = *std::get<GgufArray>(written->At("tokenizer.ggml.scores")).Numbers();
  EXPECT_EQ(scores[262], 0) << "_a";
  EXPECT_EQ(scores[263], -1) << "ab";
  EXPECT_EQ(scores[264], -2) << "_ab";
  EXPECT_LT(scores[260], -2) << "a, which nothing makes";
  const auto types = *std::get<GgufArray>(written->At("tokenizer.ggml.token_type")).Integers();
  EXPECT_EQ(types[0], 2);
  EXPECT_EQ(types[1], 3);
  EXPECT_EQ(types[3], 6);
}

TEST(GgufVocabularyTest, AChatTemplateIsThatOfItsFileOrTheDefault) {
  const Json named = {
      {"chat_template",
       {{{"name", "tool"}, {"template", "t"}}, {{"name", "default"}, {"template", "d"}}}}};
  const auto text = [](const std::unique_ptr<Written>& written) {
    return std::string(std::get<std::string_view>(written->At("tokenizer.chat_template")));
  };
  EXPECT_EQ(text(Write(ByteLevelDocument(), named)), "d");
  EXPECT_EQ(text(Write(ByteLevelDocument(), {{"chat_template", "c"}})), "c");
  EXPECT_EQ(text(Write(ByteLevelDocument(), {{"chat_template", "c"}}, "file")), "file");
}

TEST(GgufVocabularyTest, TextThatIsComposedFirstIsNotedWhereTheNameStandsForIt) {
  Json document = ByteLevelDocument();
  document["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(ReasonOf(Write(document)->status), Reason::kFeatureUnsupported) << "gpt-2 does not";
  document["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "behavior": "Isolated", "pattern": {"Regex":
       "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  const auto written = Write(document);
  ASSERT_TRUE(written->status.ok()) << written->status;
  EXPECT_EQ(std::get<std::string_view>(written->At("tokenizer.ggml.pre")), "qwen2");
  EXPECT_THAT(written->notes, ElementsAre(HasSubstr("NFC")));
}

using Change = std::function<void(Json&)>;

void ExpectRefused(const Json& source, const std::vector<std::pair<std::string, Change>>& changes) {
  for (const auto& [why, change] : changes) {
    Json document = source;
    change(document);
    const absl::Status status = Write(document)->status;
    EXPECT_EQ(ReasonOf(status), Reason::kFeatureUnsupported) << why << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    EXPECT_THAT(std::string(status.message()), HasSubstr("--gguf-donor"));
  }
}

TEST(GgufVocabularyTest, WhatByteLevelTokenizersDoAndLlamaCppDoesNotIsRefused) {
  ExpectRefused(
      ByteLevelDocument(),
      {{"splits words", [](Json& d) { d["pre_tokenizer"]["add_prefix_space"] = true; }},
       {"no rule", [](Json& d) { d["model"]["ignore_merges"] = true; }},
       {"before splitting",
        [](Json& d) {
          d["normalizer"] = {{"type", "Lowercase"}};
        }},
       {"WordPiece", [](Json& d) { d["model"]["type"] = "WordPiece"; }},
       {"dropout", [](Json& d) { d["model"]["dropout"] = 0.1; }},
       {"rstrip", [](Json& d) { d["added_tokens"][0]["rstrip"] = true; }},
       {"overlap",
        [](Json& d) {
          d["added_tokens"].push_back({{"id", 265}, {"content", ">a"}});
        }},
       {"overlap",
        [](Json& d) {
          d["added_tokens"].push_back({{"id", 265}, {"content", "x<s>"}, {"normalized", true}});
        }},
       {"no id of its own", [](Json& d) { d["added_tokens"][1]["id"] = 7; }},
       {"no id of its own", [](Json& d) { d["model"]["vocab"]["zz"] = 5; }},
       {"270 rows", [](Json& d) { d["model"]["vocab"]["zz"] = 270; }},
       {"[PAD269]", [](Json& d) { d["model"]["vocab"]["[PAD269]"] = 268; }},
       {"byte 0x61", [](Json& d) { d["model"]["vocab"].erase("a"); }},
       {"stands twice", [](Json& d) { d["model"]["merges"].push_back("a n"); }},
       {"two tokens", [](Json& d) { d["model"]["merges"].push_back("q q"); }},
       {"two tokens", [](Json& d) { d["model"]["merges"].push_back("he"); }},
       {"around a text",
        [](Json& d) {
          d["post_processor"] = {{"type", "BertProcessing"}};
        }},
       {"around a text", [](Json& d) {
          d["post_processor"]["processors"][1]["special_tokens"]["<s>"]["ids"] = {1};
        }}});
}

TEST(GgufVocabularyTest, WhatIsNotSentencePieceIsRefused) {
  ExpectRefused(SentencePieceDocument(),
                {{"would join", [](Json& d) { d["model"]["merges"].erase(3); }},
                 {"do not stand together",
                  [](Json& d) {
                    d["model"]["merges"] = {"\u2581a b", "\u2581 a", "\u2581 ab", "a b"};
                  }},
                 {"not SentencePiece's", [](Json& d) { d["normalizer"] = nullptr; }},
                 {"not SentencePiece's",
                  [](Json& d) {
                    d["pre_tokenizer"] = {{"type", "Metaspace"}};
                  }},
                 {"<0x41>", [](Json& d) { d["model"]["vocab"].erase("<0x41>"); }},
                 {"normalized text", [](Json& d) { d["added_tokens"][1]["normalized"] = true; }},
                 {"are not merged", [](Json& d) { d["model"]["ignore_merges"] = true; }}});
}

TEST(GgufVocabularyTest, RunsOfOneCharacterMayBeAddedTokens) {
  Json document = ByteLevelDocument();
  document["added_tokens"].push_back({{"id", 262}, {"content", "  "}});
  document["added_tokens"].push_back({{"id", 263}, {"content", "    "}});
  const auto written = Write(document);
  ASSERT_TRUE(written->status.ok()) << written->status;
  const auto types = *std::get<GgufArray>(written->At("tokenizer.ggml.token_type")).Integers();
  EXPECT_EQ(types[263], 4) << "user-defined";
}

TEST(GgufVocabularyTest, BytesOfNoTextMayHaveNoToken) {
  Json document = ByteLevelDocument();
  document["model"]["vocab"].erase(ByteCharacters()[4]);
  EXPECT_THAT(Write(document)->notes, ElementsAre(HasSubstr("1 bytes")));
  document["model"]["unk_token"] = "<s>";
  EXPECT_EQ(ReasonOf(Write(document)->status), Reason::kFeatureUnsupported);
}

TEST(GgufVocabularyTest, FilesThatContradictEachOtherAreRefused) {
  const absl::Status status = Write(ByteLevelDocument(), {{"add_bos_token", false}})->status;
  EXPECT_EQ(ReasonOf(status), Reason::kFeatureUnsupported);
  EXPECT_THAT(std::string(status.message()), HasSubstr("add_bos_token false"));
}

TEST(GgufVocabularyTest, MalformedFilesAreNamed) {
  for (const char* text :
       {"", "[]", "{}", R"({"model": 1})", R"({"model": {"vocab": {"a": -1}}})",
        R"({"model": {"vocab": {}, "byte_fallback": true}, "added_tokens": 3})"}) {
    GgufPairs pairs;
    std::vector<std::string> notes;
    const absl::Status status = AddGgufVocabulary({text, "", "", "{}"}, kRows, pairs, notes);
    EXPECT_EQ(ReasonOf(status), Reason::kTokenizerInvalid) << text << ": " << status;
  }
}

}  // namespace
}  // namespace linchpin
