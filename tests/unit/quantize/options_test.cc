#include "quantize/options.h"

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

TEST(OptionsTest, EverySpellingComesBack) {
  for (const char* name : {"w4a16"}) EXPECT_EQ(NameOf(*ParseScheme(name)), name);
  for (const char* name : {"signed", "minmax"}) EXPECT_EQ(NameOf(*ParseScaleRule(name)), name);
  for (const char* name : {"tensor", "scale", "none"}) {
    EXPECT_EQ(NameOf(*ParsePreserve(name)), name);
  }
  for (const char* name : {"auto", "32", "64", "128", "channel"}) {
    EXPECT_EQ(GroupSizeName(*ParseGroupSize(name)), name);
  }
}

TEST(OptionsTest, GroupSizesAreElements) {
  EXPECT_EQ(*ParseGroupSize("auto"), 0);
  EXPECT_EQ(*ParseGroupSize("64"), 64);
  EXPECT_EQ(*ParseGroupSize("channel"), -1);
  EXPECT_EQ(GroupSizeName(48), "unknown");
}

TEST(OptionsTest, UnknownNamesAreRefusedWithTheList) {
  const absl::Status scheme = ParseScheme("w3a16").status();
  EXPECT_EQ(ReasonOf(scheme), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(scheme.message()),
              HasSubstr("scheme: 'w3a16' is not known: use one of w4a16"));

  const absl::Status rule = ParseScaleRule("").status();
  EXPECT_EQ(ReasonOf(rule), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(rule.message()), HasSubstr("signed, minmax"));

  EXPECT_THAT(std::string(ParsePreserve("lora").status().message()),
              HasSubstr("tensor, scale, none"));
  for (const char* text : {"48", "-1", "0", "128 ", "Auto", ""}) {
    const absl::Status group = ParseGroupSize(text).status();
    EXPECT_EQ(ReasonOf(group), Reason::kOptionInvalid) << text;
    EXPECT_THAT(std::string(group.message()), HasSubstr("auto, 32, 64, 128, channel")) << text;
  }
}

TEST(OptionsTest, DefaultsAreTheSafeOnes) {
  const QuantizeOptions options;
  EXPECT_EQ(options.scheme, Scheme::kW4A16);
  EXPECT_EQ(options.group_size, 0);
  EXPECT_EQ(options.scale, ScaleRule::kSigned);
  EXPECT_EQ(options.preserve, Preserve::kTensor);
}

}  // namespace
}  // namespace linchpin
