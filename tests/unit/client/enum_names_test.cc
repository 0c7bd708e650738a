#include "client/enum_names.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>

namespace linchpin {
namespace {

TEST(NameOf, TellsEveryVerdictClassAndModeApart) {
  std::set<std::string_view> verdicts, classes;
  std::set<std::string> modes;
  for (int i = 0; i < v1::Verdict_ARRAYSIZE; ++i)
    verdicts.insert(NameOf(static_cast<v1::Verdict>(i)));
  for (int i = 0; i < v1::WeightClass_ARRAYSIZE; ++i) {
    classes.insert(NameOf(static_cast<v1::WeightClass>(i)));
  }
  for (const std::string& name : PreserveNames()) modes.insert(name);
  EXPECT_EQ(verdicts,
            (std::set<std::string_view>{"single", "several", "distributed", "none", "unproven"}));
  EXPECT_EQ(classes, (std::set<std::string_view>{"critical", "joint", "inert", "unproven"}));
  EXPECT_EQ(modes, (std::set<std::string>{"tensor", "scale", "lora", "restore", "none"}));
}

TEST(NameOf, IsWhatTheCommandLineTakes) {
  EXPECT_EQ(SchemeNames(),
            (std::vector<std::string>{"w4a16", "w8a16", "w8a8", "fp8", "q4_0", "q4_1", "q5_0",
                                      "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16",
                                      "blocks", "pruned", "pruned_2_4"}));
  for (const std::string& name : SchemeNames()) EXPECT_EQ(NameOf(SchemeNamed(name)), name);
  for (const std::string& name : ScaleRuleNames()) EXPECT_EQ(NameOf(ScaleRuleNamed(name)), name);
  for (const std::string& name : PreserveNames()) EXPECT_EQ(NameOf(PreserveNamed(name)), name);
  EXPECT_EQ(FormatNames(), (std::vector<std::string>{"compressed-tensors", "gguf", "dense"}));
  EXPECT_EQ(FormatNamed("gguf"), v1::OUTPUT_FORMAT_GGUF);
  EXPECT_EQ(NameOf(v1::SCHEME_UNSPECIFIED), "");
  EXPECT_EQ(SchemeNamed("unspecified"), v1::SCHEME_UNSPECIFIED);
  EXPECT_EQ(ScaleRuleNamed("best"), v1::SCALE_RULE_UNSPECIFIED);
}

TEST(IsExact, ComparesBits) {
  v1::KeptWeight weight;
  weight.set_source_value(5.875F);
  weight.set_stored_value(5.875F);
  EXPECT_TRUE(IsExact(weight));
  weight.set_stored_value(5.8750005F);
  EXPECT_FALSE(IsExact(weight));
  weight.set_source_value(0.0F);
  weight.set_stored_value(-0.0F);
  EXPECT_FALSE(IsExact(weight));
}

}  // namespace
}  // namespace linchpin
