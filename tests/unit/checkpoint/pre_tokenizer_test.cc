#include "checkpoint/pre_tokenizer.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PreTokenizer Parse(const std::string& json) {
  const Json parsed = Json::parse(json);
  auto pre_tokenizer = PreTokenizer::Parse("t.json", &parsed);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  return *std::move(pre_tokenizer);
}

std::vector<std::string> Split(const PreTokenizer& pre_tokenizer, std::string text) {
  const auto words = pre_tokenizer.Split(std::move(text));
  EXPECT_TRUE(words.ok()) << words.status();
  return words.value_or(std::vector<std::string>());
}

void ExpectRefused(const std::string& json, Reason reason, const std::string& word) {
  const Json parsed = Json::parse(json);
  const auto pre_tokenizer = PreTokenizer::Parse("t.json", &parsed);
  ASSERT_FALSE(pre_tokenizer.ok()) << json;
  EXPECT_EQ(ReasonOf(pre_tokenizer.status()), reason) << pre_tokenizer.status();
  EXPECT_THAT(std::string(pre_tokenizer.status().message()), HasSubstr(word));
  EXPECT_THAT(std::string(pre_tokenizer.status().message()), HasSubstr("t.json"));
}

std::string SplitJson(const std::string& regex, const std::string& behavior,
                      const std::string& invert = "false") {
  return R"({"type": "Split", "pattern": {"Regex": ")" + regex + R"("}, "behavior": ")" + behavior +
         R"(", "invert": )" + invert + "}";
}

TEST(PreTokenizer, WithoutOneTheTextIsOneWord) {
  const auto none = PreTokenizer::Parse("t.json", nullptr);
  ASSERT_TRUE(none.ok());
  EXPECT_THAT(Split(*none, "a b"), ElementsAre("a b"));
  EXPECT_THAT(Split(*none, ""), IsEmpty());
  EXPECT_THAT(Split(Parse("null"), "a b"), ElementsAre("a b"));
}

TEST(PreTokenizer, ByteLevelSplitsAsGpt2AndShowsBytesAsCharacters) {
  const PreTokenizer p = Parse(R"({"type": "ByteLevel", "add_prefix_space": false})");
  EXPECT_THAT(Split(p, "Hello world's 42  !!\n"),
              ElementsAre("Hello", "Ġworld", "'s", "Ġ42", "Ġ", "Ġ!!", "Ċ"));
  EXPECT_THAT(Split(p, "é"), ElementsAre("Ã©"));
  EXPECT_THAT(Split(p, "\x01\x7f"), ElementsAre("āġ")) << "U+0101 and U+0121";
}

TEST(PreTokenizer, ByteLevelAddsASpaceInFrontUnlessThereIsOne) {
  const PreTokenizer p = Parse(R"({"type": "ByteLevel"})");
  EXPECT_THAT(Split(p, "a b"), ElementsAre("Ġa", "Ġb"));
  EXPECT_THAT(Split(p, " a"), ElementsAre("Ġa"));
  EXPECT_THAT(Split(p, ""), IsEmpty());
}

TEST(PreTokenizer, ByteLevelMayLeaveTheSplittingToOthers) {
  const PreTokenizer p =
      Parse(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})");
  EXPECT_THAT(Split(p, "a b"), ElementsAre("aĠb"));
}

TEST(PreTokenizer, SplitKeepsOrDropsMatches) {
  EXPECT_THAT(Split(Parse(SplitJson("[0-9]+", "Isolated")), "a12b3"),
              ElementsAre("a", "12", "b", "3"));
  EXPECT_THAT(Split(Parse(SplitJson("[0-9]+", "Isolated", "true")), "a12"), ElementsAre("a", "12"));
  EXPECT_THAT(Split(Parse(SplitJson("[0-9]+", "Removed")), "a12b3"), ElementsAre("a", "b"));
  EXPECT_THAT(Split(Parse(SplitJson("[0-9]+", "Removed", "true")), "a12b3"),
              ElementsAre("12", "3"));
}

TEST(PreTokenizer, PatternsAreOfUnicode) {
  EXPECT_THAT(Split(Parse(SplitJson("\\\\p{L}+", "Isolated")), "漢字1é"),
              ElementsAre("漢字", "1", "é"));
  EXPECT_THAT(Split(Parse(SplitJson("(?i:É)", "Isolated")), "aéb"), ElementsAre("a", "é", "b"));
  EXPECT_THAT(Split(Parse(SplitJson("\\\\s", "Removed")),
                    "a\xe2\x80\x83"
                    "b"),
              ElementsAre("a", "b"));
}

TEST(PreTokenizer, EmptyMatchesAreNone) {
  EXPECT_THAT(Split(Parse(SplitJson("x*", "Isolated")), "axxb"), ElementsAre("a", "xx", "b"));
}

TEST(PreTokenizer, DigitsStandAloneOneByOneOrTogether) {
  EXPECT_THAT(Split(Parse(R"({"type": "Digits", "individual_digits": true})"), "a12½"),
              ElementsAre("a", "1", "2", "½"));
  EXPECT_THAT(Split(Parse(R"({"type": "Digits", "individual_digits": false})"), "a12½b"),
              ElementsAre("a", "12½", "b"));
}

TEST(PreTokenizer, SequencesAreAppliedInOrder) {
  const PreTokenizer p = Parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false}]})");
  EXPECT_THAT(Split(p, "a 12"), ElementsAre("a", "Ġ", "1", "2"));
}

TEST(PreTokenizer, RefusesWhatIsNotBuilt) {
  const Reason reason = Reason::kFeatureUnsupported;
  ExpectRefused(R"({"type": "Metaspace"})", reason, "Metaspace");
  ExpectRefused(R"({"type": "Sequence", "pretokenizers": [{"type": "Bert"}]})", reason, "Bert");
  ExpectRefused(R"([])", reason, "");
  ExpectRefused(SplitJson("a", "MergedWithNext"), reason, "MergedWithNext");
  ExpectRefused(R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"})", reason,
                "Regex");
  ExpectRefused(R"({"type": "Split", "behavior": "Isolated"})", reason, "Regex");
}

TEST(PreTokenizer, RefusesBrokenFiles) {
  const Reason reason = Reason::kTokenizerInvalid;
  ExpectRefused(R"({"type": "Sequence"})", reason, "pretokenizers");
  ExpectRefused(SplitJson("(a", "Isolated"), reason, "(a");
  ExpectRefused(SplitJson("\\\\C", "Isolated"), reason, "\\C");
  ExpectRefused(SplitJson("(?=a\\\\K)", "Isolated"), reason, "pattern");
  ExpectRefused(SplitJson(std::string(20'000, 'a'), "Isolated"), reason, "too long");
}

TEST(PreTokenizer, APatternThatExplodesIsAnErrorAndSoon) {
  const PreTokenizer p = Parse(SplitJson("(a+)+(b|$x)", "Isolated"));
  EXPECT_EQ(ReasonOf(p.Split(std::string(64, 'a') + "c").status()), Reason::kTokenizerInvalid);
}

}  // namespace
}  // namespace linchpin
