#include "format/json.h"

#include <chrono>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<Json> Parse(std::string_view text) {
  return ParseJson("a.json", text, Reason::kConfigInvalid);
}

std::string Refusal(std::string_view text) {
  const auto json = Parse(text);
  if (json.ok()) return "(parsed)";
  EXPECT_EQ(ReasonOf(json.status()), Reason::kConfigInvalid);
  return std::string(json.status().message());
}

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(ParseJson, ReadsEveryKindOfValueInOrder) {
  const auto json =
      Parse(R"( {"b": [1, -2, 2.5, "x", true, null], "a": {"\u00e9": 18446744073709551615}} )");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->dump(), "{\"b\":[1,-2,2.5,\"x\",true,null],\"a\":{\"é\":18446744073709551615}}");
  EXPECT_TRUE((*json)["b"][1].is_number_integer());
  EXPECT_TRUE((*json)["a"]["é"].is_number_unsigned());
}

TEST(ParseJson, ReadsEmptyContainersAndBareValues) {
  for (const char* text : {"{}", "[]", "[{}]", "{\"a\":[]}", "1", "\"x\"", "null"}) {
    EXPECT_TRUE(Parse(text).ok()) << text;
  }
}

TEST(ParseJson, RefusesMalformedTextNamingFileAndByte) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\" 1}", "{a: 1}", "nul", "01", "+1", "1.",
                           "NaN", "Infinity", "'x'", "\"\t\"", "\"\\x\"", "// c\n1", "1e999"}) {
    EXPECT_THAT(Refusal(text), AllOf(HasSubstr("a.json"), HasSubstr("byte"))) << text;
  }
  EXPECT_THAT(Refusal("[1, 2, x]"), HasSubstr("byte 8"));
}

TEST(ParseJson, RefusesTrailingBytes) {
  EXPECT_THAT(Refusal("{} x"), HasSubstr("byte"));
  EXPECT_THAT(Refusal("{}{}"), HasSubstr("byte"));
  EXPECT_TRUE(Parse("{} \n\t").ok());
}

TEST(ParseJson, RefusesANulByteWhereverItStands) {
  using std::string_view_literals::operator""sv;
  EXPECT_THAT(Refusal("{}\0"sv), HasSubstr("byte 3"));
  EXPECT_THAT(Refusal("{}\0garbage"sv), HasSubstr("NUL"));
  EXPECT_THAT(Refusal("\"a\0b\""sv), HasSubstr("NUL"));
}

TEST(ParseJson, RefusesAByteOrderMark) {
  EXPECT_THAT(Refusal("\xef\xbb\xbf{}"), HasSubstr("mark"));
}

TEST(ParseJson, RefusesInvalidUtf8) {
  for (const char* text : {"\"\xff\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
                           "{\"\xf5\x80\x80\x80\": 1}", "\"\\ud800\""}) {
    EXPECT_THAT(Refusal(text), HasSubstr("byte")) << text;
  }
  EXPECT_TRUE(Parse("\"\xe2\x96\x81 \\ud83d\\ude00\"").ok());
}

TEST(ParseJson, RefusesADuplicateKeyOfOneObject) {
  EXPECT_THAT(Refusal(R"({"a": 1, "b": 2, "a": 3})"), HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(Refusal(R"({"x": [{"a": 1, "\u0061": 2}]})"), HasSubstr("duplicate key \"a\""));
  EXPECT_TRUE(Parse(R"({"a": {"a": 1}, "b": {"a": 1}})").ok());
}

TEST(ParseJson, RefusesNestingDeeperThan64) {
  EXPECT_TRUE(Parse(Nested(64)).ok());
  EXPECT_THAT(Refusal(Nested(65)), HasSubstr("deeper than 64"));
  EXPECT_THAT(Refusal(std::string(10'000'000, '[')), HasSubstr("deeper than 64"));
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  EXPECT_THAT(Refusal(objects), HasSubstr("deeper than 64"));
}

TEST(ParseJson, RefusesMoreValuesThanMemoryShouldHold) {
  std::string text = "[0";
  for (size_t i = 0; i < kMaxJsonValues; ++i) text += ",0";
  EXPECT_THAT(Refusal(text + "]"), HasSubstr("more than 4000000 values"));
}

TEST(ParseJson, TakesTimeInProportionToTheKeys) {
  std::string text = "{";
  constexpr int kKeys = 1'000'000;
  for (int i = 0; i < kKeys; ++i) text += (i > 0 ? ",\"k" : "\"k") + std::to_string(i) + "\":0";
  // Looking each key up among the others would outlast the test's limit many times.
  const auto json = Parse(text + "}");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->size(), static_cast<size_t>(kKeys));
}

TEST(ParseJson, KeepsItsMessagesShort) {
  EXPECT_LT(Refusal("[" + std::string(100'000, 'x') + "]").size(), 400u);
  EXPECT_LT(Refusal("\"" + std::string(100'000, 'x')).size(), 400u);
}

struct Numbers : JsonReader {
  Numbers() : JsonReader("n.json", Reason::kIndexInvalid) {}
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool number_unsigned(number_unsigned_t value) override {
    return value < 10 || Fail("a number above 9");
  }
};

TEST(ReadJson, EndsWithTheReadersOwnRefusal) {
  const auto read = [](std::string_view text) {
    Numbers reader;
    return ReadJson("n.json", text, Reason::kIndexInvalid, reader);
  };
  EXPECT_TRUE(read("[1, [2, 3]]").ok());
  EXPECT_THAT(std::string(read("[1, 10, x").message()), HasSubstr("n.json: a number above 9"));
  for (const char* text : {"[true]", "[null]", "[\"a\"]", "[-1]", "[1.5]", "{}", "[{\"a\": 1}]"}) {
    EXPECT_THAT(std::string(read(text).message()), HasSubstr("where the format has none")) << text;
    EXPECT_EQ(ReasonOf(read(text)), Reason::kIndexInvalid);
  }
  EXPECT_THAT(std::string(read("[1").message()), HasSubstr("malformed JSON at byte 3"));
}

}  // namespace
}  // namespace linchpin
