#include "detect/stability.h"

#include "detect/notes.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

Detection Finding(const std::vector<int64_t>& rows) {
  Detection detection;
  detection.prompt = {1, static_cast<int32_t>(rows.size())};
  for (const int64_t row : rows) detection.super_weights.push_back({.position = {"w", row, 7}});
  return detection;
}

TEST(StabilityTest, PromptsThatAgreeAreOne) {
  const Detection result = WithStability({"ids", "prose"}, {Finding({1, 2}), Finding({1, 2})});
  EXPECT_EQ(result.stability->agreement, 1);
  EXPECT_EQ(result.super_weights[0].agreement, 1);
  EXPECT_TRUE(NotesOn(result).empty());
  const Detection none = WithStability({"ids", "prose"}, {Finding({}), Finding({})});
  EXPECT_EQ(none.stability->agreement, 1);
}

TEST(StabilityTest, SaysWhatEachPromptFound) {
  const Detection result =
      WithStability({"ids", "prose", "code"}, {Finding({1, 2}), Finding({1}), Finding({3})});
  // {1} of {1, 2} is a half, {3} of {1, 2, 3} nothing.
  EXPECT_DOUBLE_EQ(result.stability->agreement, 0.25);
  EXPECT_DOUBLE_EQ(*result.super_weights[0].agreement, 2.0 / 3);
  EXPECT_DOUBLE_EQ(*result.super_weights[1].agreement, 1.0 / 3);
  ASSERT_EQ(result.stability->prompts.size(), 3U);
  EXPECT_EQ(result.stability->prompts[2].name, "code");
  EXPECT_EQ(result.stability->prompts[2].token_ids, (std::vector<int32_t>{1, 1}));
  EXPECT_EQ(result.stability->prompts[2].found[0].row, 3);
  ASSERT_EQ(NotesOn(result).size(), 1U);
  EXPECT_NE(NotesOn(result)[0].find("1 of 3 prompts"), std::string::npos);
}

TEST(StabilityTest, OfOnePromptItIsWholeAgreement) {
  EXPECT_EQ(WithStability({"ids"}, {Finding({1})}).stability->agreement, 1);
}

}  // namespace
}  // namespace linchpin
