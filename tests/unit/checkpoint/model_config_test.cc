#include "checkpoint/model_config.h"

#include <string>

#include "base/status.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

Json MinimalConfig() {
  return Json::parse(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 5, "num_attention_heads": 4, "vocab_size": 160})");
}

absl::StatusOr<ModelConfig> Parse(const Json& config) {
  return ModelConfig::Parse("dir/config.json", config.dump());
}

ModelConfig ParseGood(const Json& config) {
  const auto parsed = Parse(config);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.value_or(ModelConfig());
}

void ExpectRefused(const Json& config, Reason reason, const std::string& word) {
  const auto parsed = Parse(config);
  ASSERT_FALSE(parsed.ok()) << config;
  EXPECT_EQ(ReasonOf(parsed.status()), reason) << parsed.status();
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("dir/config.json"));
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(word));
}

TEST(ModelConfig, ReadsTheShapeAndTakesTheFamilysDefaults) {
  const ModelConfig config = ParseGood(MinimalConfig());
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.hidden, 64);
  EXPECT_EQ(config.intermediate, 96);
  EXPECT_EQ(config.layers, 5);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.vocab, 160);
  EXPECT_EQ(config.max_positions, 0);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_FALSE(config.llama3_rope.has_value());
  EXPECT_FALSE(config.attention_bias || config.mlp_bias || config.tied_embeddings);
  EXPECT_FALSE(config.bos.has_value());
}

TEST(ModelConfig, ReadsEveryOption) {
  Json json = MinimalConfig();
  json.update(Json::parse(R"({"num_key_value_heads": 2, "head_dim": 32, "rms_norm_eps": 1e-5,
    "rope_theta": 500000, "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true,
    "max_position_embeddings": 256, "bos_token_id": 7, "hidden_act": "silu",
    "rope_scaling": null, "quantization_config": null})"));
  const ModelConfig config = ParseGood(json);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 500000);
  EXPECT_TRUE(config.attention_bias && config.mlp_bias && config.tied_embeddings);
  EXPECT_EQ(config.max_positions, 256);
  EXPECT_EQ(config.bos, 7);
}

TEST(ModelConfig, BosMayBeNullANumberOrAList) {
  Json json = MinimalConfig();
  json["bos_token_id"] = nullptr;
  EXPECT_FALSE(ParseGood(json).bos.has_value());
  json["bos_token_id"] = Json::array({5, 6});
  EXPECT_EQ(ParseGood(json).bos, 5);
  json["bos_token_id"] = Json::array();
  EXPECT_FALSE(ParseGood(json).bos.has_value());
  for (const Json& bad : {Json(160), Json(-1), Json("1"), Json(1.5), Json::array({"x"})}) {
    json["bos_token_id"] = bad;
    ExpectRefused(json, Reason::kConfigInvalid, "bos_token_id");
  }
}

constexpr char kLlama3[] = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32})";

TEST(ModelConfig, BothDialectsGiveTheSameRotation) {
  Json old_dialect = MinimalConfig();
  old_dialect["rope_theta"] = 500000.0;
  old_dialect["rope_scaling"] = Json::parse(kLlama3);
  Json new_dialect = MinimalConfig();
  new_dialect["rope_parameters"] = Json::parse(kLlama3);
  new_dialect["rope_parameters"]["rope_theta"] = 500000.0;
  for (const Json& json : {old_dialect, new_dialect}) {
    const ModelConfig config = ParseGood(json);
    EXPECT_EQ(config.rope_theta, 500000);
    ASSERT_TRUE(config.llama3_rope.has_value());
    EXPECT_EQ(config.llama3_rope->factor, 8);
    EXPECT_EQ(config.llama3_rope->low_freq_factor, 1);
    EXPECT_EQ(config.llama3_rope->high_freq_factor, 4);
    EXPECT_EQ(config.llama3_rope->original_max_position, 32);
  }
}

TEST(ModelConfig, ReadsTheOldestNameOfTheRopeType) {
  Json json = MinimalConfig();
  json["rope_scaling"] = Json::parse(R"({"type": "linear", "factor": 2.0})");
  ExpectRefused(json, Reason::kFeatureUnsupported, "linear");
  json["rope_scaling"] = Json::parse(R"({"type": "default"})");
  EXPECT_FALSE(ParseGood(json).llama3_rope.has_value());
}

TEST(ModelConfig, RefusesAnIncompleteOrContradictoryRotation) {
  for (const char* key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    Json json = MinimalConfig();
    json["rope_scaling"] = Json::parse(kLlama3);
    json["rope_scaling"].erase(key);
    ExpectRefused(json, Reason::kConfigInvalid, key);
    json["rope_scaling"][key] = "8";
    ExpectRefused(json, Reason::kConfigInvalid, key);
  }
  Json json = MinimalConfig();
  json["rope_scaling"] = Json::parse(kLlama3);
  json["rope_scaling"]["high_freq_factor"] = 1.0;
  ExpectRefused(json, Reason::kConfigInvalid, "high_freq_factor");
  json["rope_scaling"] = Json::object();
  ExpectRefused(json, Reason::kConfigInvalid, "rope_type");
  json["rope_scaling"] = nullptr;
  json["rope_theta"] = 10000;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 20000}};
  ExpectRefused(json, Reason::kConfigInvalid, "rope_theta");
}

TEST(ModelConfig, RefusesFamiliesWithTheListOfThoseThatAreSupported) {
  Json json = MinimalConfig();
  json["model_type"] = "mamba";
  ExpectRefused(json, Reason::kFamilyUnsupported, "mamba");
  for (const std::string& family : SupportedFamilies()) {
    ExpectRefused(json, Reason::kFamilyUnsupported, family);
  }
  json.erase("model_type");
  ExpectRefused(json, Reason::kConfigInvalid, "model_type");
}

TEST(ModelConfig, RefusesWhatIsNotBuilt) {
  const auto with = [](const char* key, const Json& value) {
    Json json = MinimalConfig();
    json[key] = value;
    return json;
  };
  ExpectRefused(with("quantization_config", {{"quant_method", "gptq"}}),
                Reason::kFeatureUnsupported, "already quantized");
  ExpectRefused(with("hidden_act", "gelu"), Reason::kFeatureUnsupported, "gelu");
  ExpectRefused(with("partial_rotary_factor", 0.5), Reason::kFeatureUnsupported,
                "partial_rotary_factor");
  ExpectRefused(with("rope_interleaved", true), Reason::kFeatureUnsupported, "rope_interleaved");
  ExpectRefused(with("layer_types", {"full_attention", "sliding_attention"}),
                Reason::kFeatureUnsupported, "layer_types");
  ExpectRefused(with("rope_parameters", {{"rope_type", "yarn"}}), Reason::kFeatureUnsupported,
                "yarn");
  EXPECT_EQ(ParseGood(with("layer_types", {"full_attention"})).layers, 5);
  EXPECT_EQ(ParseGood(with("partial_rotary_factor", 1.0)).layers, 5);
}

TEST(ModelConfig, RefusesMissingMistypedAndImpossibleNumbers) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "vocab_size"}) {
    Json json = MinimalConfig();
    json.erase(key);
    ExpectRefused(json, Reason::kConfigInvalid, key);
    for (const Json& bad : {Json("64"), Json(0), Json(-64), Json(64.0), Json(int64_t{1} << 40),
                            Json(UINT64_MAX), Json(true), Json::array({64})}) {
      json[key] = bad;
      ExpectRefused(json, Reason::kConfigInvalid, key);
    }
  }
  Json json = MinimalConfig();
  json["num_key_value_heads"] = 3;
  ExpectRefused(json, Reason::kConfigInvalid, "num_key_value_heads");
  json = MinimalConfig();
  json["num_attention_heads"] = 5;
  ExpectRefused(json, Reason::kConfigInvalid, "hidden_size");
  json = MinimalConfig();
  json["head_dim"] = 15;
  ExpectRefused(json, Reason::kConfigInvalid, "head_dim");
  json["head_dim"] = int64_t{1} << 24;
  ExpectRefused(json, Reason::kConfigInvalid, "head_dim");
  for (const char* key : {"rms_norm_eps", "rope_theta"}) {
    for (const Json& bad : {Json(0), Json(-1.0), Json("1")}) {
      json = MinimalConfig();
      json[key] = bad;
      ExpectRefused(json, Reason::kConfigInvalid, key);
    }
  }
  for (const char* key : {"attention_bias", "mlp_bias", "tie_word_embeddings"}) {
    json = MinimalConfig();
    json[key] = 1;
    ExpectRefused(json, Reason::kConfigInvalid, key);
  }
}

TEST(ModelConfig, RefusesWhatIsNoJsonObject) {
  for (const char* text : {"", "[]", "{", "null", R"({"model_type": "llama"} x)"}) {
    EXPECT_EQ(ReasonOf(ModelConfig::Parse("c", text).status()), Reason::kConfigInvalid) << text;
  }
}

class SharedConfigs : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedConfigs, BothDialectsAreTheSameModel) {
  LINCHPIN_NEEDS_SHARED();
  const auto directory = SharedPath("oracles") / GetParam();
  const auto before = ModelConfig::Parse("v4", ReadFileText(directory / "config.json"));
  const auto since = ModelConfig::Parse("v5", ReadFileText(directory / "config.v5.json"));
  ASSERT_TRUE(before.ok()) << before.status();
  ASSERT_TRUE(since.ok()) << since.status();
  EXPECT_EQ(before->hidden, since->hidden);
  EXPECT_EQ(before->head_dim, since->head_dim);
  EXPECT_EQ(before->kv_heads, since->kv_heads);
  EXPECT_EQ(before->rope_theta, since->rope_theta);
  EXPECT_EQ(before->tied_embeddings, since->tied_embeddings);
  EXPECT_EQ(before->attention_bias, since->attention_bias);
  EXPECT_EQ(before->bos, since->bos);
  ASSERT_EQ(before->llama3_rope.has_value(), since->llama3_rope.has_value());
  if (before->llama3_rope) {
    EXPECT_EQ(before->llama3_rope->factor, since->llama3_rope->factor);
  }
}

INSTANTIATE_TEST_SUITE_P(Llama, SharedConfigs,
                         ::testing::Values("families/llama", "families/llama_tied_bias",
                                           "families/llama3", "planted/00-llama-one",
                                           "planted/06-llama3-siblings",
                                           "planted/09-llama-tied-bias-columns",
                                           "planted/10-llama-decoy"));

}  // namespace
}  // namespace linchpin
