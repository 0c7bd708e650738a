#include "pipeline/tokens.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/built_in_text.h"
#include "pipeline/demo_model.h"
#include "storage/memory_storage.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;
using Windows = std::vector<std::vector<int32_t>>;

class TokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteDemoModel(storage_, "/demo").ok());
    auto opened = Checkpoint::Open(storage_, "/demo");
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = std::make_unique<Checkpoint>(std::move(*opened));
    config_ = *ModelConfig::Parse("config.json", checkpoint_->config_text());
  }

  absl::StatusOr<Windows> Cut(const TokenSource& source, const WindowOptions& windows = {}) {
    return MakeWindows(*checkpoint_, config_, source, windows);
  }

  MemoryStorage storage_;
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelConfig config_;
};

TEST_F(TokensTest, IdsAreWindowsAlready) {
  const auto windows = Cut({.ids = {{1, 2, 3}, {4, 5}}});
  ASSERT_TRUE(windows.ok()) << windows.status();
  EXPECT_THAT(*windows, ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 5)));
}

TEST_F(TokensTest, BothOrNoneIsRefused) {
  EXPECT_EQ(ReasonOf(Cut({}).status()), Reason::kOptionInvalid);
  EXPECT_EQ(ReasonOf(Cut({.ids = {{1, 2}}, .text = "a"}).status()), Reason::kOptionInvalid);
}

TEST_F(TokensTest, ASequenceWithNothingToPredictIsRefused) {
  EXPECT_EQ(ReasonOf(Cut({.ids = {{1}}}).status()), Reason::kTokensInvalid);
  EXPECT_EQ(ReasonOf(Cut({.ids = {{1, 2}, {}}}).status()), Reason::kTokensInvalid);
}

TEST_F(TokensTest, IdsOutsideTheVocabularyAreRefused) {
  EXPECT_EQ(ReasonOf(Cut({.ids = {{1, 512}}}).status()), Reason::kTokensInvalid);
  EXPECT_EQ(ReasonOf(Cut({.ids = {{-1, 2}}}).status()), Reason::kTokensInvalid);
}

TEST_F(TokensTest, MoreThanTheModelHasPositionsIsRefused) {
  const std::vector<int32_t> longest(static_cast<size_t>(config_.max_positions), 1);
  EXPECT_TRUE(Cut({.ids = {longest}}).ok());
  std::vector<int32_t> longer = longest;
  longer.push_back(1);
  const absl::Status status = Cut({.ids = {longer}}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kTokensInvalid);
  EXPECT_NE(status.message().find("positions"), std::string::npos);
}

TEST_F(TokensTest, MoreThanMemoryIsReservedForIsRefused) {
  config_.max_positions = 0;  // not known
  const std::vector<int32_t> longest(kMaxSequenceTokens, 1);
  std::vector<int32_t> longer = longest;
  longer.push_back(1);
  EXPECT_TRUE(Cut({.ids = {longest}}).ok());
  EXPECT_EQ(ReasonOf(Cut({.ids = {longer}}).status()), Reason::kTokensInvalid);
  EXPECT_EQ(ReasonOf(MakePrompt(*checkpoint_, config_, {.ids = {longer}}).status()),
            Reason::kTokensInvalid);
  Windows all(kMaxTokens / kMaxSequenceTokens, longest);
  EXPECT_TRUE(Cut({.ids = all}).ok());
  all.push_back({1, 2});
  EXPECT_EQ(ReasonOf(Cut({.ids = all}).status()), Reason::kTokensInvalid);
}

TEST_F(TokensTest, TextNeedsATokenizer) {
  EXPECT_EQ(ReasonOf(Cut({.text = "hello"}).status()), Reason::kSourceNotFound);
}

TEST_F(TokensTest, WithoutATokenizerTheBuiltInTokensAreFixedIds) {
  const auto tokens = MakeBuiltInTokens(*checkpoint_, config_, {});
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_NE(tokens->no_text_because.find("tokenizer.json"), std::string::npos);
  ASSERT_THAT(tokens->windows, SizeIs(2));
  EXPECT_NE(tokens->windows[0], tokens->windows[1]);
  for (const auto& window : tokens->windows) {
    EXPECT_THAT(window, SizeIs(128));
    EXPECT_EQ(window.front(), 1);
    for (const int32_t id : window) EXPECT_TRUE(id >= 0 && id < 512) << id;
  }
  const auto again = MakeBuiltInTokens(*checkpoint_, config_, {});
  EXPECT_EQ(tokens->windows, again->windows);
}

TEST_F(TokensTest, BuiltInTokensFitTheWindowsAndTheModel) {
  auto tokens = MakeBuiltInTokens(*checkpoint_, config_, {.size = 40, .count = 1});
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_THAT(tokens->windows, ElementsAre(SizeIs(40)));
  config_.max_positions = 30;
  tokens = MakeBuiltInTokens(*checkpoint_, config_, {});
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_THAT(tokens->windows, ElementsAre(SizeIs(30), SizeIs(30)));
  EXPECT_EQ(ReasonOf(MakeBuiltInTokens(*checkpoint_, config_, {.size = 1}).status()),
            Reason::kOptionInvalid);
}

TEST_F(TokensTest, AWindowOfOneTokenIsRefused) {
  EXPECT_EQ(ReasonOf(Cut({.ids = {{1, 2}}}, {.size = 1}).status()), Reason::kOptionInvalid);
  EXPECT_EQ(ReasonOf(Cut({.ids = {{1, 2}}}, {.count = 0}).status()), Reason::kOptionInvalid);
}

TEST_F(TokensTest, ThePromptDefaultsToBosAndFixedIds) {
  const auto prompt = MakePrompt(*checkpoint_, config_, {});
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_THAT(*prompt, SizeIs(16));
  EXPECT_EQ(prompt->front(), 1);
  for (const int32_t id : *prompt) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, 512);
  }
}

TEST_F(TokensTest, AGivenPromptIsUsedAsItIs) {
  const auto prompt = MakePrompt(*checkpoint_, config_, {.ids = {{7, 8, 9}}});
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_THAT(*prompt, ElementsAre(7, 8, 9));
}

TEST_F(TokensTest, PromptsDifferAndEndWithThoseWithoutBos) {
  const auto prompts = MakePrompts(*checkpoint_, config_, {.ids = {{7, 8}}}, kMaxPrompts);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  ASSERT_THAT(*prompts, SizeIs(kMaxPrompts));
  EXPECT_EQ(prompts->front().name, "given");
  EXPECT_THAT(prompts->front().ids, ElementsAre(7, 8));
  std::set<std::vector<int32_t>> distinct;
  for (const NamedPrompt& prompt : *prompts) {
    EXPECT_TRUE(distinct.insert(prompt.ids).second) << prompt.name;
    EXPECT_LE(prompt.ids.size(), 16U);
  }
  for (int i = 1; i < kMaxPrompts; ++i) {
    const NamedPrompt& prompt = (*prompts)[static_cast<size_t>(i)];
    EXPECT_EQ(prompt.ids.front() == 1, i <= 3) << prompt.name;
    EXPECT_EQ(prompt.name, i <= 3 ? "other ids" : "other ids without BOS");
  }
  config_.bos.reset();
  const auto without = MakePrompts(*checkpoint_, config_, {}, kMaxPrompts);
  ASSERT_TRUE(without.ok()) << without.status();
  distinct.clear();
  for (const NamedPrompt& prompt : *without) {
    EXPECT_TRUE(distinct.insert(prompt.ids).second) << prompt.name;
  }
}

TEST_F(TokensTest, AsManyPromptsAsThereAreKinds) {
  for (const int count : {0, -1, kMaxPrompts + 1}) {
    EXPECT_EQ(ReasonOf(MakePrompts(*checkpoint_, config_, {}, count).status()),
              Reason::kOptionInvalid);
  }
  const auto one = MakePrompts(*checkpoint_, config_, {}, 1);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->front().name, "ids");
  EXPECT_EQ(one->front().ids, *MakePrompt(*checkpoint_, config_, {}));
}

TEST(TokensOfTextTest, PromptsAreTextWhereTheTokenizerCanBeRead) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("models/tinystories-656k"));
  const auto prompts = MakePrompts(*model.checkpoint, model.config, {}, kMaxPrompts);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  std::vector<std::string> names;
  for (const NamedPrompt& prompt : *prompts) names.push_back(prompt.name);
  EXPECT_THAT(names, ElementsAre("ids", "prose", "code", "other ids", "prose without BOS",
                                 "code without BOS", "other ids without BOS"));
}

TEST(TokensOfTextTest, WindowsFollowOneAnotherEachAfterBos) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("models/tinystories-656k"));
  const std::string text = ReadFileText(SharedPath("text/tinystories_sample_cs336.txt"));
  const auto windows =
      MakeWindows(*model.checkpoint, model.config, {.text = text}, {.size = 32, .count = 3});
  ASSERT_TRUE(windows.ok()) << windows.status();
  ASSERT_THAT(*windows, SizeIs(3));
  const auto whole =
      MakeWindows(*model.checkpoint, model.config, {.text = text}, {.size = 94, .count = 1});
  ASSERT_TRUE(whole.ok()) << whole.status();
  std::vector<int32_t> joined = {1};
  for (const auto& window : *windows) {
    ASSERT_THAT(window, SizeIs(32));
    EXPECT_EQ(window.front(), 1);
    joined.insert(joined.end(), window.begin() + 1, window.end());
  }
  EXPECT_EQ(joined, whole->front());
}

TEST(TokensOfTextTest, BuiltInTokensAreTheTextWhereTheTokenizerCanBeRead) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("models/tinystories-656k"));
  const auto tokens = MakeBuiltInTokens(*model.checkpoint, model.config, {.size = 4096});
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->no_text_because, "");
  const auto whole =
      MakePrompt(*model.checkpoint, model.config, {.text = std::string(NeutralText())});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_GT(whole->size(), 200U);
  if (std::cmp_less_equal(whole->size(), model.config.max_positions)) {
    EXPECT_THAT(tokens->windows, ElementsAre(*whole));
  } else {
    EXPECT_THAT(tokens->windows.front(), SizeIs(model.config.max_positions));
  }
}

// Its ids would be another model's: they are not used, and it is said why.
TEST(TokensOfTextTest, ATokenizerOfAnotherVocabularyGivesFixedIds) {
  LINCHPIN_NEEDS_SHARED();
  OracleModel model = OpenModel(SharedPath("models/tinystories-656k"));
  model.config.vocab = 100;
  const auto tokens = MakeBuiltInTokens(*model.checkpoint, model.config, {});
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_NE(tokens->no_text_because.find("outside the vocabulary of 100"), std::string::npos);
  for (const auto& window : tokens->windows) {
    for (const int32_t id : window) EXPECT_LT(id, 100);
  }
}

TEST(TokensOfTextTest, TooShortATextIsRefused) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("models/tinystories-656k"));
  const auto windows = MakeWindows(*model.checkpoint, model.config, {.text = "Once"}, {});
  EXPECT_EQ(ReasonOf(windows.status()), Reason::kOptionInvalid);
}

}  // namespace
}  // namespace linchpin
