// What a quantization_config says of activations.
#include "checkpoint/compression_config.h"

#include <string>

#include "base/status.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

constexpr char kToken[] =
    R"({"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true})";

absl::StatusOr<CompressionConfig> ParseText(const std::string& quantization) {
  const Json config = Json::parse(R"({"quantization_config": )" + quantization + "}");
  return CompressionConfig::Parse("m/config.json", config);
}

std::string Compressed(const std::string& groups, const std::string& more = "") {
  return R"({"quant_method": "compressed-tensors", "format": "int-quantized", )" + more +
         R"("config_groups": {)" + groups + "}}";
}

std::string Group(const std::string& name, const std::string& targets,
                  const std::string& activations) {
  return "\"" + name + R"(": {"targets": )" + targets + R"(, "input_activations": )" + activations +
         "}";
}

void ExpectRefused(const std::string& quantization, Reason reason, const std::string& word) {
  const auto config = ParseText(quantization);
  EXPECT_EQ(ReasonOf(config.status()), reason) << config.status();
  EXPECT_NE(config.status().message().find(word), std::string::npos) << config.status();
}

TEST(CompressionConfigTest, WithoutOneNothingIsCompressed) {
  for (const char* text : {"null", R"({"quant_method": "fp8"})",
                           R"({"quant_method": "gptq", "format": "pack-quantized"})",
                           R"({"quant_method": "compressed-tensors", "format": "nvfp4"})"}) {
    const auto config = ParseText(text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_FALSE(config->compressed()) << text;
  }
}

TEST(CompressionConfigTest, EveryGroupHasItsRounding) {
  std::string float8 = kToken;
  float8.replace(float8.find("int"), 3, "float");
  const auto config = ParseText(Compressed(Group("group_0", R"(["Linear"])", kToken) + "," +
                                           Group("group_1", R"(["re:.*embed_tokens$"])", "null") +
                                           "," + Group("group_2", R"(["re:.*lm_head$"])", float8)));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->compressed());
  EXPECT_EQ(config->RoundingOf("model.layers.0.mlp.up_proj"), TokenRounding::kInt8);
  EXPECT_EQ(config->RoundingOf("model.embed_tokens"), TokenRounding::kNone);
  EXPECT_EQ(config->RoundingOf("lm_head"), TokenRounding::kFloat8);
  EXPECT_EQ(config->note(), "");
}

TEST(CompressionConfigTest, ScalesThatAreBroughtAlongAreNoted) {
  std::string fixed = kToken;
  fixed.replace(fixed.rfind("true"), 4, "false");
  const auto config = ParseText(Compressed(Group("group_0", R"(["Linear"])", fixed)));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->RoundingOf("model.layers.0.mlp.up_proj"), TokenRounding::kNone);
  EXPECT_NE(config->note().find("loss is that of the weights"), std::string::npos);
}

TEST(CompressionConfigTest, WhatIsNotUnderstoodIsRefusedByName) {
  const std::string linear = Group("group_0", R"(["Linear"])", "null");
  ExpectRefused(Compressed(Group("group_0", R"(["re:.*(q|k)_proj$"])", "null")),
                Reason::kFeatureUnsupported, "(q|k)_proj");
  ExpectRefused(Compressed(linear, R"("kv_cache_scheme": {"num_bits": 8}, )"),
                Reason::kFeatureUnsupported, "kv_cache_scheme");
  ExpectRefused(
      Compressed(R"("g": {"targets": ["Linear"], "output_activations": {"num_bits": 8}})"),
      Reason::kFeatureUnsupported, "output_activations");
  ExpectRefused(Compressed(""), Reason::kConfigInvalid, "config_groups");
  ExpectRefused(Compressed(R"("g": 7)"), Reason::kConfigInvalid, "g must be an object");
  ExpectRefused(Compressed(R"("g": {"targets": "Linear"})"), Reason::kConfigInvalid, "targets");
  ExpectRefused(Compressed(R"("g": {"targets": [7]})"), Reason::kConfigInvalid, "targets");
  ExpectRefused(Compressed(Group("g", R"(["Linear"])", "7")), Reason::kConfigInvalid,
                "input_activations");
}

// Weights in FP8 were read by their scales before anything was rounded, and still are.
TEST(CompressionConfigTest, WeightsInFloat8NeedNoGroups) {
  const auto parsed = CompressionConfig::Parse(
      "config.json", Json::parse(R"({"quantization_config": {"quant_method": "compressed-tensors",
                                    "format": "float-quantized"}})"));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_FALSE(parsed->compressed());
}

}  // namespace
}  // namespace linchpin
