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
  EXPECT_EQ(config.rope.full.theta, 10000);
  EXPECT_EQ(config.rope.full.type, RopeType::kDefault);
  EXPECT_FALSE(config.biases.qkv || config.biases.attention_output || config.biases.mlp);
  EXPECT_FALSE(config.tied_embeddings.has_value());
  EXPECT_EQ(config.attention_scale, 0.25);
  EXPECT_EQ(config.windows, std::vector<int64_t>(5, 0));
  EXPECT_EQ(config.sparse, std::vector<bool>(5, false));
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
  EXPECT_EQ(config.rope.full.theta, 500000);
  EXPECT_TRUE(config.biases.qkv && config.biases.attention_output && config.biases.mlp);
  EXPECT_EQ(config.tied_embeddings, true);
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
    for (const RopeConfig& rope : {config.rope.full, config.rope.windowed}) {
      EXPECT_EQ(rope.theta, 500000);
      EXPECT_EQ(rope.type, RopeType::kLlama3);
      EXPECT_EQ(rope.factor, 8);
      EXPECT_EQ(rope.low_freq_factor, 1);
      EXPECT_EQ(rope.high_freq_factor, 4);
      EXPECT_EQ(rope.original_max_position, 32);
    }
  }
}

TEST(ModelConfig, ReadsTheOldestNameOfTheRopeType) {
  Json json = MinimalConfig();
  json["rope_scaling"] = Json::parse(R"({"type": "linear", "factor": 2.0})");
  EXPECT_EQ(ParseGood(json).rope.full.type, RopeType::kLinear);
  json["rope_scaling"] = Json::parse(R"({"type": "default"})");
  EXPECT_EQ(ParseGood(json).rope.full.type, RopeType::kDefault);
  json["rope_scaling"] = Json::parse(R"({"type": "xpos"})");
  ExpectRefused(json, Reason::kFeatureUnsupported, "xpos");
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
  EXPECT_EQ(ParseGood(with("quantization_config", {{"quant_method", "fp8"}})).layers, 5);
  ExpectRefused(with("quantization_config", "fp8"), Reason::kConfigInvalid, "quantization_config");
  ExpectRefused(with("quantization_config",
                     {{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}}),
                Reason::kFeatureUnsupported, "already quantized");
  ExpectRefused(with("hidden_act", "mish"), Reason::kFeatureUnsupported, "mish");
  ExpectRefused(with("rope_interleaved", true), Reason::kFeatureUnsupported, "rope_interleaved");
  ExpectRefused(with("do_layer_norm_before", false), Reason::kFeatureUnsupported,
                "do_layer_norm_before");
  Json types(5, "full_attention");
  types[2] = "chunked_attention";
  ExpectRefused(with("layer_types", types), Reason::kFeatureUnsupported, "chunked_attention");
  ExpectRefused(with("layer_types", {"full_attention"}), Reason::kConfigInvalid, "layer_types");
  ExpectRefused(with("word_embed_proj_dim", 32), Reason::kFeatureUnsupported,
                "word_embed_proj_dim");
}

TEST(ModelConfig, ActivationsGoByTheirNames) {
  for (const auto& [name, activation] :
       {std::pair("silu", Activation::kSilu), std::pair("gelu", Activation::kGelu),
        std::pair("gelu_pytorch_tanh", Activation::kGeluTanh),
        std::pair("gelu_new", Activation::kGeluTanh), std::pair("relu", Activation::kRelu)}) {
    Json json = MinimalConfig();
    json["hidden_act"] = name;
    EXPECT_EQ(ParseGood(json).activation, activation) << name;
  }
  Json gemma = MinimalConfig();
  gemma["model_type"] = "gemma";
  gemma["hidden_act"] = "gelu";  // its first checkpoints say so and mean tanh
  EXPECT_EQ(ParseGood(gemma).activation, Activation::kGeluTanh);
}

TEST(ModelConfig, OnlyPartOfAHeadMayBeRotated) {
  Json json = MinimalConfig();
  json["partial_rotary_factor"] = 0.5;
  EXPECT_EQ(ParseGood(json).rope.full.partial, 0.5);
  json["partial_rotary_factor"] = 1.5;
  ExpectRefused(json, Reason::kConfigInvalid, "partial_rotary_factor");
  json["partial_rotary_factor"] = 0.2;  // 3 of 16
  ExpectRefused(json, Reason::kConfigInvalid, "head_dim");
}

TEST(ModelConfig, WindowsByTheFamilysRule) {
  const auto windows = [](const char* family, const char* more) {
    Json json = MinimalConfig();
    json["model_type"] = family;
    json["sliding_window"] = 6;
    json.update(Json::parse(more));
    return ParseGood(json).windows;
  };
  using Windows = std::vector<int64_t>;
  EXPECT_EQ(windows("llama", "{}"), Windows(5, 0));
  EXPECT_EQ(windows("mistral", "{}"), Windows(5, 6));
  EXPECT_EQ(windows("mistral", R"({"sliding_window": null})"), Windows(5, 0));
  EXPECT_EQ(windows("gemma2", "{}"), (Windows{6, 0, 6, 0, 6}));
  EXPECT_EQ(windows("gemma3_text", R"({"sliding_window_pattern": 3})"), (Windows{6, 6, 0, 6, 6}));
  EXPECT_EQ(windows("qwen2", R"({"max_window_layers": 2})"), Windows(5, 0));
  EXPECT_EQ(windows("qwen2", R"({"use_sliding_window": true, "max_window_layers": 2})"),
            (Windows{0, 0, 6, 6, 6}));
  EXPECT_EQ(windows("qwen2_moe", R"({"use_sliding_window": true, "max_window_layers": 3})"),
            (Windows{6, 0, 6, 0, 0}));
  EXPECT_EQ(windows("llama", R"({"layer_types": ["sliding_attention", "full_attention",
      "full_attention", "full_attention", "full_attention"]})"),
            (Windows{6, 0, 0, 0, 0}));
}

TEST(ModelConfig, FalconHasThreeLayouts) {
  const auto parse = [](const char* more) {
    Json json = MinimalConfig();
    json["model_type"] = "falcon";
    json.update(Json::parse(more));
    return ParseGood(json);
  };
  const ModelConfig first = parse("{}");
  EXPECT_EQ(first.kv_heads, 1);
  EXPECT_TRUE(first.architecture.parallel);
  EXPECT_EQ(first.architecture.mlp_input_norm, "");
  const ModelConfig second = parse(R"({"new_decoder_architecture": true, "num_kv_heads": 2})");
  EXPECT_EQ(second.kv_heads, 2);
  EXPECT_EQ(second.architecture.attention_input_norm, "ln_attn");
  EXPECT_EQ(second.architecture.mlp_input_norm, "ln_mlp");
  const ModelConfig third =
      parse(R"({"parallel_attn": false, "multi_query": false, "alibi": true, "bias": true})");
  EXPECT_EQ(third.kv_heads, 4);
  EXPECT_FALSE(third.architecture.parallel);
  EXPECT_EQ(third.architecture.positions, PositionKind::kAlibi);
  EXPECT_TRUE(third.biases.mlp && third.biases.qkv);
}

TEST(ModelConfig, ExpertsSkipTheLayersThatTheConfigNames) {
  Json json = MinimalConfig();
  json["model_type"] = "qwen2_moe";
  json.update(Json::parse(R"({"num_experts": 4, "num_experts_per_tok": 2,
      "moe_intermediate_size": 48, "mlp_only_layers": [3], "decoder_sparse_step": 2})"));
  const ModelConfig config = ParseGood(json);
  EXPECT_EQ(config.sparse, (std::vector<bool>{false, true, false, false, false}));
  EXPECT_EQ(config.experts.count, 4);
  EXPECT_EQ(config.experts.intermediate, 48);
  json["num_experts_per_tok"] = 5;
  ExpectRefused(json, Reason::kConfigInvalid, "num_experts_per_tok");
}

TEST(ModelConfig, TheTextModelOfAMultimodalOne) {
  Json text = MinimalConfig();
  text["model_type"] = "gemma3_text";
  for (const char* key : {"num_attention_heads", "vocab_size"}) text.erase(key);
  const Json json = {{"model_type", "gemma3"}, {"text_config", text}, {"bos_token_id", 2}};
  const ModelConfig config = ParseGood(json);
  EXPECT_EQ(config.family, "gemma3_text");
  EXPECT_EQ(config.heads, 8);  // what the class means by leaving it out
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.vocab, 262208);
  EXPECT_EQ(config.bos, 2);
  EXPECT_EQ(config.rope.full.theta, 1e6);
  EXPECT_EQ(config.rope.windowed.theta, 1e4);
  EXPECT_FALSE(config.tied_embeddings.has_value());
  ExpectRefused({{"model_type", "gemma3"}, {"text_config", 3}}, Reason::kConfigInvalid,
                "text_config");
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
  EXPECT_EQ(before->tied_embeddings, since->tied_embeddings);
  EXPECT_EQ(before->biases.qkv, since->biases.qkv);
  EXPECT_EQ(before->bos, since->bos);
  EXPECT_EQ(before->windows, since->windows);
  for (const auto& [a, b] : {std::pair(before->rope.full, since->rope.full),
                             std::pair(before->rope.windowed, since->rope.windowed)}) {
    EXPECT_EQ(a.type, b.type);
    EXPECT_EQ(a.theta, b.theta);
    EXPECT_EQ(a.partial, b.partial);
    EXPECT_EQ(a.factor, b.factor);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, SharedConfigs,
                         ::testing::Values("families/falcon", "families/gemma", "families/gemma2",
                                           "families/gemma3_text", "families/gpt2",
                                           "families/gpt_neox", "families/llama", "families/llama3",
                                           "families/llama_tied_bias", "families/mistral",
                                           "families/mixtral", "families/olmo", "families/olmo2",
                                           "families/opt", "families/phi", "families/phi3",
                                           "families/qwen2", "families/qwen2_moe", "families/qwen3",
                                           "families/qwen3_moe"));

}  // namespace
}  // namespace linchpin
