#include "checkpoint/byte_pair_encoder.h"

#include <chrono>
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

// a b c ab bc abc, with "b c" joined before "a b".
Json SmallModel() {
  return Json::parse(R"({"type": "BPE", "unk_token": "?",
    "vocab": {"?": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5, "abc": 6},
    "merges": ["b c", "a b", "a bc"]})");
}

// Through text, as a number that is made in code is signed and one that is read is not.
absl::StatusOr<BytePairEncoder> TryParse(const Json& model) {
  return BytePairEncoder::Parse("t.json", Json::parse(model.dump()));
}

BytePairEncoder Parse(const Json& model) {
  auto encoder = TryParse(model);
  EXPECT_TRUE(encoder.ok()) << encoder.status();
  return *std::move(encoder);
}

std::vector<int32_t> Encode(const BytePairEncoder& encoder, std::string_view word) {
  std::vector<int32_t> ids;
  encoder.Encode(word, ids);
  return ids;
}

void ExpectRefused(const Json& model, Reason reason, const std::string& word) {
  const auto encoder = TryParse(model);
  ASSERT_FALSE(encoder.ok()) << model;
  EXPECT_EQ(ReasonOf(encoder.status()), reason) << encoder.status();
  EXPECT_THAT(std::string(encoder.status().message()), HasSubstr(word));
  EXPECT_THAT(std::string(encoder.status().message()), HasSubstr("t.json"));
}

TEST(BytePairEncoder, JoinsTheLowestRankFirstAndTheLeftmostAmongEquals) {
  const BytePairEncoder encoder = Parse(SmallModel());
  EXPECT_THAT(Encode(encoder, ""), IsEmpty());
  EXPECT_THAT(Encode(encoder, "a"), ElementsAre(1));
  EXPECT_THAT(Encode(encoder, "ab"), ElementsAre(4));
  EXPECT_THAT(Encode(encoder, "abc"), ElementsAre(6)) << "bc first, then a with it";
  EXPECT_THAT(Encode(encoder, "abab"), ElementsAre(4, 4));
  EXPECT_THAT(Encode(encoder, "cabcb"), ElementsAre(3, 6, 2));
}

TEST(BytePairEncoder, JoinsTheLeftmostOfOverlappingPairs) {
  const BytePairEncoder encoder =
      Parse(Json::parse(R"({"vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]]})"));
  EXPECT_THAT(Encode(encoder, "aaa"), ElementsAre(1, 0));
  EXPECT_THAT(Encode(encoder, "aaaa"), ElementsAre(1, 1));
}

TEST(BytePairEncoder, ReadsBothSpellingsOfMerges) {
  Json model = SmallModel();
  model["merges"] = Json::parse(R"([["b", "c"], ["a", "b"], ["a", "bc"]])");
  EXPECT_THAT(Encode(Parse(model), "abc"), ElementsAre(6));
}

TEST(BytePairEncoder, UnknownCharactersStandAloneUnlessFused) {
  Json model = SmallModel();
  EXPECT_THAT(Encode(Parse(model),
                     "x\xc3\xa9"
                     "ab\xe2\x96\x81"),
              ElementsAre(0, 0, 4, 0));
  model["fuse_unk"] = true;
  EXPECT_THAT(Encode(Parse(model),
                     "x\xc3\xa9"
                     "ab\xe2\x96\x81"),
              ElementsAre(0, 4, 0));
  model["unk_token"] = nullptr;
  EXPECT_THAT(Encode(Parse(model), "xab"), ElementsAre(4)) << "dropped, as by the reference";
}

TEST(BytePairEncoder, FallsBackToBytes) {
  Json model = SmallModel();
  model["byte_fallback"] = true;
  model["vocab"]["<0xC3>"] = 10;
  model["vocab"]["<0xA9>"] = 11;
  model["vocab"]["<0x78>"] = 12;
  const BytePairEncoder encoder = Parse(model);
  EXPECT_THAT(Encode(encoder,
                     "\xc3\xa9"
                     "abx"),
              ElementsAre(10, 11, 4, 12));
  EXPECT_THAT(Encode(encoder, "\xc3\xaa"), ElementsAre(0)) << "one of its bytes has no token";
}

TEST(BytePairEncoder, MayTakeWholeWordsFromTheVocabulary) {
  Json model = SmallModel();
  model["vocab"]["cab"] = 9;
  EXPECT_THAT(Encode(Parse(model), "cab"), ElementsAre(3, 4));
  model["ignore_merges"] = true;
  EXPECT_THAT(Encode(Parse(model), "cab"), ElementsAre(9));
  EXPECT_THAT(Encode(Parse(model), "cabb"), ElementsAre(3, 4, 2));
}

TEST(BytePairEncoder, TakesALongWordInReasonableTime) {
  const BytePairEncoder encoder = Parse(SmallModel());
  std::string word;
  for (int i = 0; i < 300'000; ++i) word += "abc";
  // Searching all of it for each merge would outlast the test's limit many times.
  EXPECT_EQ(Encode(encoder, word), std::vector<int32_t>(300'000, 6));
}

TEST(BytePairEncoder, RefusesWhatIsNotBuilt) {
  for (const auto& [key, value] : {std::pair<const char*, Json>("dropout", 0.1),
                                   {"continuing_subword_prefix", "##"},
                                   {"end_of_word_suffix", "</w>"}}) {
    Json model = SmallModel();
    model[key] = value;
    ExpectRefused(model, Reason::kFeatureUnsupported, key);
  }
  Json model = SmallModel();
  model["type"] = "Unigram";
  ExpectRefused(model, Reason::kFeatureUnsupported, "Unigram");
  model = SmallModel();
  model.update(Json::parse(
      R"({"dropout": null, "continuing_subword_prefix": "", "end_of_word_suffix": ""})"));
  EXPECT_THAT(Encode(Parse(model), "ab"), ElementsAre(4));
}

TEST(BytePairEncoder, RefusesABrokenVocabulary) {
  Json model = SmallModel();
  for (const Json& bad : {Json(-1), Json("1"), Json(1.5), Json(nullptr), Json(int64_t{1} << 31)}) {
    model["vocab"]["a"] = bad;
    ExpectRefused(model, Reason::kTokenizerInvalid, "\"a\"");
  }
  model["vocab"] = Json::array();
  ExpectRefused(model, Reason::kTokenizerInvalid, "model.vocab");
  model.erase("vocab");
  ExpectRefused(model, Reason::kTokenizerInvalid, "model.vocab");
  model = SmallModel();
  for (const Json& bad : {Json("nope"), Json(1), Json::array()}) {
    model["unk_token"] = bad;
    ExpectRefused(model, Reason::kTokenizerInvalid, "unk_token");
  }
}

TEST(BytePairEncoder, RefusesBrokenMergesNamingTheirPlace) {
  for (const Json& bad : {Json("ab"), Json("a b c"), Json(1), Json::array({"a"}),
                          Json::array({"a", 1}), Json("x b"), Json("a x"), Json("c c")}) {
    Json model = SmallModel();
    model["merges"].push_back(bad);
    ExpectRefused(model, Reason::kTokenizerInvalid, "merges[3]");
  }
  Json model = SmallModel();
  model["merges"] = "a b";
  ExpectRefused(model, Reason::kTokenizerInvalid, "model.merges");
}

}  // namespace
}  // namespace linchpin
