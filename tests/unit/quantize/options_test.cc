#include "quantize/options.h"

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

TEST(OptionsTest, EverySpellingComesBack) {
  for (const std::string_view name : SchemeNames()) EXPECT_EQ(NameOf(*ParseScheme(name)), name);
  for (const std::string_view name : FormatNames()) EXPECT_EQ(NameOf(*ParseFormat(name)), name);
  for (const std::string_view name : ScaleRuleNames()) {
    EXPECT_EQ(NameOf(*ParseScaleRule(name)), name);
  }
  for (const std::string_view name : PreserveNames()) {
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
              HasSubstr("scheme: 'w3a16' is not known: use one of w4a16, w8a16, w8a8, fp8"));

  const absl::Status rule = ParseScaleRule("").status();
  EXPECT_EQ(ReasonOf(rule), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(rule.message()), HasSubstr("importance, signed, minmax, mse"));

  EXPECT_THAT(std::string(ParsePreserve("other").status().message()),
              HasSubstr("tensor, scale, lora, restore, none"));
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
  EXPECT_EQ(options.scale, ScaleRule::kImportance);
  EXPECT_FALSE(options.asymmetric);
  EXPECT_EQ(options.preserve, Preserve::kTensor);
}

TEST(OptionsTest, EverySchemeHasItsRow) {
  for (const SchemeTraits& row : Schemes()) {
    EXPECT_EQ(&TraitsOf(row.scheme), &row);
    EXPECT_FALSE(row.name.empty());
    EXPECT_FALSE(row.formats.empty()) << row.name;
  }
}

TEST(OptionsTest, ChoicesThatDoNotGoTogetherAreRefusedWithARemedy) {
  const std::pair<QuantizeOptions, std::string> cases[] = {
      {{.scheme = Scheme::kW8A8, .group_size = 64},
       "group-size: '64' is not for w8a8: use auto or channel"},
      {{.scheme = Scheme::kFp8, .group_size = 128}, "is not for fp8"},
      {{.scheme = Scheme::kW8A16, .asymmetric = true}, "scheme: 'w8a16' has no zero points"},
      {{.asymmetric = true, .scale = ScaleRule::kSigned}, "scale: 'signed' is for symmetric codes"},
      {{.asymmetric = true, .preserve = Preserve::kScale}, "preserve: 'scale' is for symmetric"},
      {{.scheme = Scheme::kW8A8, .preserve = Preserve::kScale},
       "rounds activations, too: use tensor"},
      {{.scheme = Scheme::kPruned}, "scheme: 'pruned' cannot be stored as compressed-tensors"},
      {{.format = Format::kDense, .scheme = Scheme::kPruned, .sparsity = 1.5},
       "sparsity: it is no part of all weights"},
      {{.format = Format::kDense, .scheme = Scheme::kPruned2Of4, .sparsity = 0.25},
       "sparsity: is not for pruned_2_4: leave it out"},
      {{.group_size = 48}, "group-size: '48' is not known: use one of auto, 32, 64, 128, channel"},
  };
  for (const auto& [options, message] : cases) {
    const absl::Status status = CheckOptions(options);
    EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(OptionsTest, EverySchemeTakesTheDefaults) {
  for (const SchemeTraits& row : Schemes()) {
    EXPECT_TRUE(CheckOptions({.format = row.formats.front(), .scheme = row.scheme}).ok())
        << row.name;
  }
}

}  // namespace
}  // namespace linchpin
