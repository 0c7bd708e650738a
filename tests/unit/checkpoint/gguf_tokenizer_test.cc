#include "checkpoint/gguf_tokenizer.h"

#include <cmath>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kI32 = 5, kF32 = 6;

std::string Types(const std::vector<uint32_t>& types) {
  std::string bytes;
  for (const uint32_t type : types) bytes += GgufU32(type);
  return GgufArrayPair("tokenizer.ggml.token_type", kI32, types.size(), bytes);
}

std::string Scores(const std::vector<float>& scores) {
  std::string bytes;
  for (const float score : scores) bytes += GgufF32(score);
  return GgufArrayPair("tokenizer.ggml.scores", kF32, scores.size(), bytes);
}

std::string Tokens(const std::vector<std::string>& tokens) {
  return GgufPair("tokenizer.ggml.tokens", tokens);
}

// The tokenizer of a model with these pairs besides its own.
absl::StatusOr<Tokenizer> Load(const std::vector<std::string>& more) {
  std::vector<std::string> pairs = TinyGgufPairs();
  pairs.insert(pairs.end(), more.begin(), more.end());
  MemoryStorage storage;
  storage.Put("m.gguf", ToBytes(GgufFile(pairs, TinyGgufTensors())));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, "m.gguf"));
  ASSIGN_OR_RETURN(const std::string text, checkpoint.TokenizerText());
  return Tokenizer::Parse("m.gguf", text);
}

std::vector<int32_t> Encode(const std::vector<std::string>& pairs, std::string_view text) {
  const auto tokenizer = Load(pairs);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  if (!tokenizer.ok()) return {};
  const auto ids = tokenizer->Encode(text);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

void ExpectRefused(const std::vector<std::string>& pairs, Reason reason,
                   const std::vector<std::string>& words) {
  const auto tokenizer = Load(pairs);
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(ReasonOf(tokenizer.status()), reason) << tokenizer.status();
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("m.gguf"));
  for (const std::string& word : words) {
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(word));
  }
}

std::vector<std::string> ByteLevel(const char* pre = "gpt-2") {
  return {GgufPair("tokenizer.ggml.model", "gpt2"), GgufPair("tokenizer.ggml.pre", pre),
          Tokens({"<s>", "a", "b", "ab", "1", "11", "<u>", "\u0120"}),
          Types({3, 1, 1, 1, 1, 1, 4, 1}),
          GgufPair("tokenizer.ggml.merges", std::vector<std::string>{"a b", "1 1"})};
}

TEST(GgufTokenizer, JoinsByItsMerges) {
  EXPECT_THAT(Encode(ByteLevel(), "ab ba"), ElementsAre(3, 7, 2, 1));
  EXPECT_THAT(Encode(ByteLevel(), "<s>ab<u>"), ElementsAre(0, 3, 6));
}

TEST(GgufTokenizer, ThePatternHasAName) {
  EXPECT_THAT(Encode(ByteLevel("gpt-2"), "1111"), ElementsAre(5, 5));
  EXPECT_THAT(Encode(ByteLevel("llama-bpe"), "1111"), ElementsAre(5, 4, 4));
  EXPECT_THAT(Encode(ByteLevel("qwen2"), "1111"), ElementsAre(4, 4, 4, 4));
  EXPECT_THAT(Encode(ByteLevel("smollm"), "1111"), ElementsAre(4, 4, 4, 4));
}

std::vector<std::string> SentencePiece() {
  return {GgufPair("tokenizer.ggml.model", "llama"),
          Tokens({"<unk>", "<s>", "\u2581", "a", "b", "c", "ab", "bc", "\u2581a", "abc", "<0x7A>"}),
          Scores({0, 0, -9, -9, -9, -9, -2, -1, -4, -3, 0}),
          Types({2, 3, 1, 1, 1, 1, 1, 1, 1, 1, 6}),
          GgufPair("tokenizer.ggml.unknown_token_id", 0U)};
}

TEST(GgufTokenizer, JoinsWhatMakesTheBestToken) {
  // "bc" before "ab", and "abc" of "a" and "bc" before a blank and "a".
  EXPECT_THAT(Encode(SentencePiece(), "abc"), ElementsAre(2, 9));
  EXPECT_THAT(Encode(SentencePiece(), "ab a"), ElementsAre(2, 6, 8));
  EXPECT_THAT(Encode(SentencePiece(), "<s>"), ElementsAre(1));
}

TEST(GgufTokenizer, FallsBackToBytesAndThenToTheUnknown) {
  EXPECT_THAT(Encode(SentencePiece(), "za"), ElementsAre(2, 10, 3));
  EXPECT_THAT(Encode(SentencePiece(), "xy"), ElementsAre(2, 0));
}

TEST(GgufTokenizer, ABlankInFrontIsASetting) {
  std::vector<std::string> pairs = SentencePiece();
  pairs.push_back(GgufPair("tokenizer.ggml.add_space_prefix", false));
  EXPECT_THAT(Encode(pairs, "a a"), ElementsAre(3, 8));
}

TEST(GgufTokenizer, RefusesWhatIsNotBuiltByName) {
  ExpectRefused({}, Reason::kSourceNotFound, {"no vocabulary", "token ids"});
  ExpectRefused({GgufPair("tokenizer.ggml.model", "none")}, Reason::kSourceNotFound, {});
  std::vector<std::string> pairs = ByteLevel();
  pairs[0] = GgufPair("tokenizer.ggml.model", "t5");
  ExpectRefused(pairs, Reason::kFeatureUnsupported,
                {"tokenizer.ggml.model", "t5", "give token ids"});
  ExpectRefused(ByteLevel("viking"), Reason::kFeatureUnsupported,
                {"tokenizer.ggml.pre", "viking", "give token ids"});
  pairs = ByteLevel();
  pairs.erase(pairs.begin() + 1);
  ExpectRefused(pairs, Reason::kFeatureUnsupported, {"tokenizer.ggml.pre"});
  pairs = ByteLevel();
  pairs.push_back(GgufPair("tokenizer.ggml.add_space_prefix", true));
  ExpectRefused(pairs, Reason::kFeatureUnsupported, {"add_space_prefix"});
}

TEST(GgufTokenizer, RefusesWhatIsNoVocabulary) {
  const auto with = [](std::vector<std::string> pairs, size_t index, const std::string& pair) {
    pairs[index] = pair;
    return pairs;
  };
  const std::string tokens = "tokenizer.ggml.tokens";
  ExpectRefused(with(ByteLevel(), 2, GgufPair(tokens, 7U)), Reason::kConfigInvalid, {tokens});
  ExpectRefused(with(ByteLevel(), 2, GgufArrayPair(tokens, kI32, 1, GgufU32(1))),
                Reason::kTokenizerInvalid, {tokens});
  ExpectRefused(with(ByteLevel(), 2, Tokens({"a", "a"})), Reason::kTokenizerInvalid,
                {tokens, "twice"});
  ExpectRefused(with(ByteLevel(), 2, Tokens({"a", "\xff"})), Reason::kTokenizerInvalid,
                {tokens, "UTF-8"});
  ExpectRefused(with(ByteLevel(), 2, Tokens({std::string(1025, 'a')})), Reason::kTokenizerInvalid,
                {tokens, "1024 bytes"});
  ExpectRefused(with(ByteLevel(), 3, Types({1, 2})), Reason::kTokenizerInvalid, {"token_type"});
  ExpectRefused(
      with(ByteLevel(), 4, GgufPair("tokenizer.ggml.merges", std::vector<std::string>{"a x"})),
      Reason::kTokenizerInvalid, {"merges[0]"});
  ExpectRefused(with(SentencePiece(), 2, Scores({1})), Reason::kTokenizerInvalid, {"scores"});
  ExpectRefused(with(SentencePiece(), 2, Scores(std::vector<float>(11, NAN))),
                Reason::kTokenizerInvalid, {"scores"});
  ExpectRefused(with(SentencePiece(), 2, GgufPair("other", 1U)), Reason::kTokenizerInvalid,
                {"scores"});
}

// A token of n letters can be made in n - 1 ways: many of them are many merges.
TEST(GgufTokenizer, WaysToJoinAreBounded) {
  const auto load = [](char last) {
    std::vector<std::string> tokens;
    for (char letter = 'a'; letter <= last; ++letter) {
      for (size_t length = 1; length <= 256; ++length) tokens.emplace_back(length, letter);
    }
    return Load({GgufPair("tokenizer.ggml.model", "llama"), Tokens(tokens),
                 Scores(std::vector<float>(tokens.size(), 1))});
  };
  const auto few = load('a');
  ASSERT_TRUE(few.ok()) << few.status();
  EXPECT_THAT(*few->Encode("aaaa"), ElementsAre(3));
  ExpectRefused(
      {GgufPair("tokenizer.ggml.model", "llama"), Tokens({std::string(257, 'a')}), Scores({1})},
      Reason::kTokenizerInvalid, {"more than 256 bytes"});
  const auto many = load('z');
  EXPECT_EQ(ReasonOf(many.status()), Reason::kTokenizerInvalid);
  EXPECT_THAT(std::string(many.status().message()), HasSubstr("too many ways"));
}

}  // namespace
}  // namespace linchpin
