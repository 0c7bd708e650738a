#include "checkpoint/tokenizer.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// "_" stands for the space; <s> is found in the raw text, <n> after the normalizer.
Json Document() {
  return Json::parse(R"({
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "_"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]},
    "pre_tokenizer": null, "post_processor": {"type": "TemplateProcessing"},
    "added_tokens": [
        {"id": 1, "content": "<s>", "normalized": false, "special": true, "lstrip": false},
        {"id": 2, "content": "<s>>", "normalized": false},
        {"id": 30, "content": "<n>", "normalized": true}],
    "model": {"type": "BPE", "unk_token": "?", "fuse_unk": true, "merges": ["_ a"],
              "vocab": {"?": 0, "<s>": 11, "_": 3, "a": 4, "b": 5, "_a": 6}}})");
}

Tokenizer Parse(const Json& document) {
  auto tokenizer = Tokenizer::Parse("t.json", document.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<int32_t> Encode(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

void ExpectRefused(const Json& document, Reason reason, const std::string& word) {
  const auto tokenizer = Tokenizer::Parse("t.json", document.dump());
  ASSERT_FALSE(tokenizer.ok()) << document;
  EXPECT_EQ(ReasonOf(tokenizer.status()), reason) << tokenizer.status();
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(word));
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("t.json"));
}

TEST(Tokenizer, NormalizesThenJoins) {
  const Tokenizer tokenizer = Parse(Document());
  EXPECT_THAT(Encode(tokenizer, "a"), ElementsAre(6));
  EXPECT_THAT(Encode(tokenizer, "a b a"), ElementsAre(6, 3, 5, 6));
  EXPECT_THAT(Encode(tokenizer, " a"), ElementsAre(3, 6));
  EXPECT_THAT(Encode(tokenizer, ""), IsEmpty());
}

TEST(Tokenizer, FindsAddedTokensLongestFirstAndPrependsAfterThemAgain) {
  const Tokenizer tokenizer = Parse(Document());
  EXPECT_THAT(Encode(tokenizer, "<s>"), ElementsAre(11)) << "the vocabulary's id wins";
  EXPECT_THAT(Encode(tokenizer, "<s>a<s>>b"), ElementsAre(11, 6, 2, 3, 5));
  EXPECT_THAT(Encode(tokenizer, "<s"), ElementsAre(3, 0));
  EXPECT_THAT(Encode(tokenizer, "<s><s>"), ElementsAre(11, 11));
}

TEST(Tokenizer, FindsNormalizedTokensInTheNormalizedText) {
  const Tokenizer tokenizer = Parse(Document());
  EXPECT_THAT(Encode(tokenizer, "<n>a"), ElementsAre(30, 4)) << "as \"_<n>\"";
  EXPECT_THAT(Encode(tokenizer, "a <n>"), ElementsAre(6, 30));
  EXPECT_THAT(Encode(tokenizer, "a<n>"), ElementsAre(6, 0)) << "no blank, no token";
}

TEST(Tokenizer, WithoutNormalizerAndAddedTokens) {
  Json document = Document();
  document.erase("added_tokens");
  document["normalizer"] = nullptr;
  EXPECT_THAT(Encode(Parse(document), "a_a"), ElementsAre(4, 6));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8NamingTheByte) {
  const Tokenizer tokenizer = Parse(Document());
  for (const char* text : {"ab\xff", "ab\xc3", "ab\xed\xa0\x80", "ab\xc0\xaf"}) {
    const absl::Status status = tokenizer.Encode(text).status();
    EXPECT_EQ(ReasonOf(status), Reason::kTokensInvalid);
    EXPECT_THAT(std::string(status.message()), HasSubstr("byte 2"));
  }
}

TEST(Tokenizer, RefusesWhatIsNotBuilt) {
  const Reason reason = Reason::kFeatureUnsupported;
  Json document = Document();
  document["normalizer"] = {{"type", "NFKC"}};
  ExpectRefused(document, reason, "NFKC");
  document["normalizer"] =
      Json::parse(R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"})");
  ExpectRefused(document, reason, "Replace");
  document["normalizer"]["pattern"] = {{"String", ""}};
  ExpectRefused(document, reason, "Replace");
  for (const char* key : {"single_word", "lstrip", "rstrip"}) {
    document = Document();
    document["added_tokens"][0][key] = true;
    ExpectRefused(document, reason, key);
  }
  document = Document();
  document["pre_tokenizer"] = {{"type", "Whitespace"}};
  ExpectRefused(document, reason, "Whitespace");
  document = Document();
  document["model"]["type"] = "WordPiece";
  ExpectRefused(document, reason, "WordPiece");
}

TEST(Tokenizer, RefusesBrokenFiles) {
  const Reason reason = Reason::kTokenizerInvalid;
  ExpectRefused(Json::array(), reason, "model");
  ExpectRefused(Json::object(), reason, "model");
  Json document = Document();
  document["added_tokens"] = 1;
  ExpectRefused(document, reason, "added_tokens");
  for (const Json& bad : {Json::object(), Json(1), Json({{"content", ""}, {"id", 1}}),
                          Json({{"content", "x"}}), Json({{"content", "x"}, {"id", -1}}),
                          Json({{"content", "x"}, {"id", uint64_t{1} << 31}})}) {
    document["added_tokens"] = Json::array({bad});
    ExpectRefused(document, reason, "added");
  }
  document = Document();
  document["normalizer"] = {{"type", "Prepend"}};
  ExpectRefused(document, reason, "Prepend");
  document["normalizer"] = {{"type", "Sequence"}};
  ExpectRefused(document, reason, "normalizers");
  EXPECT_EQ(ReasonOf(Tokenizer::Parse("t.json", "{").status()), reason);
}

// The count is the tokenizers library's; tests/consumers compares every id.
TEST(Tokenizer, EncodesTheSharedStoriesAsTheReferenceDoes) {
  LINCHPIN_NEEDS_SHARED();
  const auto path = SharedPath("models/tinystories-656k/tokenizer.json");
  const auto tokenizer = Tokenizer::Parse(path.string(), ReadFileText(path));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string text = ReadFileText(SharedPath("text/tinystories_train_head.txt"));
  EXPECT_EQ(Encode(*tokenizer, text).size(), 234845u);
}

}  // namespace
}  // namespace linchpin
