#include <string>

#include "absl/strings/str_split.h"
#include "artifact/quantized_config.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

Plan PlanOf(int64_t group_size) {
  Plan plan;
  plan.group_size = group_size;
  plan.ignored_modules = {"lm_head", "model.layers.1.mlp.down_proj"};
  return plan;
}

TEST(QuantizedConfigTest, IsTheDocumentedObject) {
  const absl::StatusOr<Json> config = QuantizedConfig("{}", PlanOf(128));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["quantization_config"].dump(),
            R"({"quant_method":"compressed-tensors","format":"pack-quantized",)"
            R"("quantization_status":"compressed",)"
            R"("ignore":["lm_head","model.layers.1.mlp.down_proj"],)"
            R"("config_groups":{"group_0":{"targets":["Linear"],"input_activations":null,)"
            R"("output_activations":null,"weights":{"num_bits":4,"type":"int","symmetric":true,)"
            R"("strategy":"group","group_size":128,"dynamic":false}}}})");
}

TEST(QuantizedConfigTest, PerChannelHasNoGroupSize) {
  const absl::StatusOr<Json> config = QuantizedConfig("{}", PlanOf(-1));
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["quantization_config"]["config_groups"]["group_0"]["weights"].dump(),
            R"({"num_bits":4,"type":"int","symmetric":true,"strategy":"channel","dynamic":false})");
}

TEST(QuantizedConfigTest, EverySchemeSaysWhatConsumersExpect) {
  const std::pair<QuantizeOptions, std::string> cases[] = {
      {{.asymmetric = true},
       R"("format":"pack-quantized"|"input_activations":null|"num_bits":4,"type":"int","symmetric":false,)"},
      {{.scheme = Scheme::kW8A16},
       R"("format":"pack-quantized"|"num_bits":8,"type":"int","symmetric":true,)"},
      {{.scheme = Scheme::kW8A8},
       R"("format":"int-quantized"|"input_activations":{"num_bits":8,"type":"int","symmetric":true,)"
       R"("strategy":"token","dynamic":true}|"weights":{"num_bits":8,"type":"int","symmetric":true,)"
       R"("strategy":"channel","dynamic":false})"},
      {{.scheme = Scheme::kFp8},
       R"("format":"float-quantized"|"input_activations":{"num_bits":8,"type":"float",)"
       R"("symmetric":true,"strategy":"token","dynamic":true}|)"
       R"("weights":{"num_bits":8,"type":"float","symmetric":true,"strategy":"channel","dynamic":false})"},
  };
  for (const auto& [options, parts] : cases) {
    Plan plan = PlanOf(-1);
    plan.options = options;
    const absl::StatusOr<Json> config = QuantizedConfig("{}", plan);
    ASSERT_TRUE(config.ok());
    const std::string text = (*config)["quantization_config"].dump();
    for (const auto part : absl::StrSplit(parts, '|')) {
      EXPECT_THAT(text, ::testing::HasSubstr(std::string(part.data(), part.size())));
    }
  }
}

TEST(QuantizedConfigTest, EmbeddingAndHeadHaveGroupsOfTheirOwnByName) {
  Plan plan = PlanOf(64);
  plan.outer = {{"model.embed_tokens", true}, {"embed_out", false}};
  const auto config = QuantizedConfig("{}", plan);
  ASSERT_TRUE(config.ok());
  const Json& groups = (*config)["quantization_config"]["config_groups"];
  EXPECT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups["group_1"].dump(),
            R"({"targets":["re:.*embed_tokens$"],"input_activations":null,)"
            R"("output_activations":null,"weights":{"num_bits":8,"type":"int","symmetric":true,)"
            R"("strategy":"channel","dynamic":false}})");
  EXPECT_EQ(groups["group_2"]["targets"].dump(), R"(["re:.*embed_out$","re:.*lm_head$"])");
}

TEST(QuantizedConfigTest, AHeadRoundsItsInputsAsTheSchemeDoesAndAnEmbeddingHasNone) {
  Plan plan = PlanOf(-1);
  plan.options.scheme = Scheme::kW8A8;
  plan.outer = {{"model.embed_tokens", true}, {"lm_head", false}};
  const auto config = QuantizedConfig("{}", plan);
  ASSERT_TRUE(config.ok());
  const Json& groups = (*config)["quantization_config"]["config_groups"];
  EXPECT_TRUE(groups["group_1"]["input_activations"].is_null());
  EXPECT_EQ(groups["group_2"]["input_activations"], groups["group_0"]["input_activations"]);
  EXPECT_EQ(groups["group_2"]["weights"], groups["group_0"]["weights"]);
}

TEST(QuantizedConfigTest, KeepsEveryKeyInItsOrder) {
  const std::string source =
      R"({"z":1,"a":{"y":null,"x":[1.5,1e-06,10000.0]},"m":"Größe","big":18446744073709551615})";
  absl::StatusOr<Json> config = QuantizedConfig(source, PlanOf(64));
  ASSERT_TRUE(config.ok());
  std::vector<std::string> keys;
  for (const auto& item : config->items()) keys.push_back(item.key());
  EXPECT_THAT(keys, ElementsAre("z", "a", "m", "big", "quantization_config"));
  config->erase("quantization_config");
  EXPECT_EQ(config->dump(), source);
}

TEST(QuantizedConfigTest, RefusesWhatIsNoConfig) {
  EXPECT_EQ(ReasonOf(QuantizedConfig("[]", PlanOf(64)).status()), Reason::kConfigInvalid);
  EXPECT_EQ(ReasonOf(QuantizedConfig("{", PlanOf(64)).status()), Reason::kConfigInvalid);
  EXPECT_EQ(ReasonOf(QuantizedConfig(R"({"quantization_config":{}})", PlanOf(64)).status()),
            Reason::kFeatureUnsupported);
}

}  // namespace
}  // namespace linchpin
