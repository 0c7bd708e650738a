// GGUF files as checkpoints.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kF16 = 1, kQ8_0 = 8;

class GgufCheckpointTest : public ::testing::Test {
 protected:
  absl::StatusOr<Checkpoint> Open(const std::vector<std::string>& pairs,
                                  const std::vector<GgufFixture>& tensors) {
    storage_.Put("dir/m.gguf", ToBytes(GgufFile(pairs, tensors)));
    return Checkpoint::Open(storage_, "dir/m.gguf");
  }
  Json ConfigOf(const std::vector<std::string>& pairs, const std::vector<GgufFixture>& tensors) {
    const auto checkpoint = Open(pairs, tensors);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return {};
    return *ParseJson("config", checkpoint->config_text(), Reason::kConfigInvalid);
  }
  // The tiny model with more pairs and tensors; tensors of a known name replace it.
  Json ConfigWith(const std::vector<std::string>& pairs,
                  const std::vector<GgufFixture>& tensors = {}) {
    return ConfigOf(PairsWith(pairs), TensorsWith(tensors));
  }
  static std::vector<std::string> PairsWith(const std::vector<std::string>& more) {
    std::vector<std::string> pairs = TinyGgufPairs();
    pairs.insert(pairs.end(), more.begin(), more.end());
    return pairs;
  }
  static std::vector<GgufFixture> TensorsWith(const std::vector<GgufFixture>& more) {
    std::vector<GgufFixture> tensors = TinyGgufTensors();
    for (const GgufFixture& tensor : more) {
      std::erase_if(tensors, [&](const auto& other) { return other.name == tensor.name; });
      tensors.push_back(tensor);
    }
    return tensors;
  }
  void ExpectRefused(const std::vector<std::string>& pairs, const std::vector<GgufFixture>& tensors,
                     Reason reason, const std::vector<std::string>& words) {
    const auto checkpoint = Open(PairsWith(pairs), TensorsWith(tensors));
    ASSERT_FALSE(checkpoint.ok());
    EXPECT_EQ(ReasonOf(checkpoint.status()), reason) << checkpoint.status();
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("dir/m.gguf"));
    for (const std::string& word : words) {
      EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(word));
    }
  }

  MemoryStorage storage_;
};

std::vector<float> Values(const Checkpoint& checkpoint, std::string_view name) {
  const auto tensor = checkpoint.Find(name);
  EXPECT_TRUE(tensor.ok()) << tensor.status();
  if (!tensor.ok()) return {};
  const int64_t rows = (*tensor)->info.shape.size() < 2 ? 1 : (*tensor)->info.shape[0];
  const auto matrix = checkpoint.ReadRows(**tensor, 0, rows);
  EXPECT_TRUE(matrix.ok()) << matrix.status();
  return matrix.ok() ? matrix->data : std::vector<float>();
}

// The first elements of `count` rows of `columns` from `first`.
std::vector<float> RowHeads(const Checkpoint& checkpoint, std::string_view name, int64_t first,
                            int64_t count) {
  const auto matrix = checkpoint.ReadRows(**checkpoint.Find(name), first, count);
  EXPECT_TRUE(matrix.ok()) << matrix.status();
  std::vector<float> heads;
  for (int64_t row = 0; row < count; ++row) heads.push_back(matrix->View().At(row, 0));
  return heads;
}

GgufFixture HalfTensor(std::string name, std::vector<int64_t> shape,
                       const std::vector<float>& values) {
  const TensorFixture half = MakeTensor("", DType::kF16, {}, values);
  return {std::move(name), std::move(shape), kF16, half.bytes};
}

TEST_F(GgufCheckpointTest, ShowsTheTensorsOfTheHuggingFaceModel) {
  const auto checkpoint = Open(TinyGgufPairs(), TinyGgufTensors());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->is_gguf());
  EXPECT_FALSE(checkpoint->has_index());
  EXPECT_TRUE(checkpoint->other_files().empty());
  ASSERT_EQ(checkpoint->shards().size(), 1u);
  EXPECT_EQ(checkpoint->shards()[0].name, "m.gguf");
  EXPECT_TRUE(checkpoint->OpenFile("m.gguf").ok());
  std::vector<std::string> names;
  for (const StoredTensor& tensor : checkpoint->tensors()) names.push_back(tensor.info.name);
  EXPECT_THAT(
      names, ElementsAre(
                 "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                 "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                 "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
                 "model.layers.0.post_attention_layernorm.weight",
                 "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
                 "model.layers.0.mlp.down_proj.weight", "model.norm.weight"));
  EXPECT_THAT((*checkpoint->Find("model.layers.0.mlp.down_proj.weight"))->info.shape,
              ElementsAre(8, 32));
  EXPECT_EQ(Values(*checkpoint, "model.norm.weight")[7], 10'007);
  // Tied: there is no output.weight.
  EXPECT_EQ(*checkpoint->Find("lm_head.weight"), *checkpoint->Find("model.embed_tokens.weight"));
  EXPECT_EQ(checkpoint->total_bytes(), 4u * (40 + 8 + 64 + 32 + 32 + 64 + 8 + 3 * 256 + 8));
}

TEST_F(GgufCheckpointTest, WritesTheConfigOfTheHuggingFaceModel) {
  const Json config = ConfigWith({GgufPair("llama.rope.freq_base", 500000.0F),
                                  GgufPair("llama.rope.dimension_count", 4U),
                                  GgufPair("tokenizer.ggml.bos_token_id", 3U)});
  const auto parsed = ModelConfig::Parse("config.json", config.dump());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->family, "llama");
  EXPECT_EQ(parsed->hidden, 8);
  EXPECT_EQ(parsed->intermediate, 32);
  EXPECT_EQ(parsed->layers, 1);
  EXPECT_EQ(parsed->heads, 2);
  EXPECT_EQ(parsed->kv_heads, 1);
  EXPECT_EQ(parsed->head_dim, 4);
  EXPECT_EQ(parsed->vocab, 5);
  EXPECT_EQ(parsed->max_positions, 64);
  EXPECT_EQ(parsed->norm_eps, 1e-5);  // not the float32 next to it
  EXPECT_EQ(parsed->rope.full.theta, 500000);
  EXPECT_EQ(parsed->rope.full.type, RopeType::kDefault);
  EXPECT_FALSE(parsed->biases.qkv);
  EXPECT_FALSE(parsed->biases.mlp);
  EXPECT_EQ(parsed->tied_embeddings, true);
  EXPECT_EQ(parsed->bos, 3);
  EXPECT_FALSE(ConfigWith({}, {MakeGgufTensor("output.weight", {5, 8},
                                              std::vector<float>(40))})["tie_word_embeddings"]);
}

// transformers rotates channel p with p + half, llama.cpp 2p with 2p + 1.
TEST_F(GgufCheckpointTest, QueryAndKeyRowsComeInTheirOwnOrder) {
  const auto checkpoint = Open(TinyGgufPairs(), TinyGgufTensors());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  // Two heads of 4 rows of 8 elements.
  EXPECT_THAT(RowHeads(*checkpoint, q, 0, 8),
              ElementsAre(2000, 2016, 2008, 2024, 2032, 2048, 2040, 2056));
  EXPECT_THAT(RowHeads(*checkpoint, q, 2, 4), ElementsAre(2008, 2024, 2032, 2048));
  EXPECT_THAT(RowHeads(*checkpoint, q, 7, 1), ElementsAre(2056));
  EXPECT_THAT(RowHeads(*checkpoint, "model.layers.0.self_attn.k_proj.weight", 0, 4),
              ElementsAre(3000, 3016, 3008, 3024));
  EXPECT_THAT(RowHeads(*checkpoint, "model.layers.0.self_attn.v_proj.weight", 0, 4),
              ElementsAre(4000, 4008, 4016, 4024));
  // Whole rows move.
  EXPECT_EQ(Values(*checkpoint, q)[8 + 7], 2016 + 7);
}

TEST_F(GgufCheckpointTest, SoDoTheirBiases) {
  const std::vector<GgufFixture> biases = {
      HalfTensor("blk.0.attn_q.bias", {8}, {0, 1, 2, 3, 4, 5, 6, 7}),
      MakeGgufTensor("blk.0.attn_k.bias", {4}, {0, 1, 2, 3}),
      MakeGgufTensor("blk.0.attn_v.bias", {4}, {0, 1, 2, 3}),
      MakeGgufTensor("blk.0.attn_output.bias", {8}, {0, 1, 2, 3, 4, 5, 6, 7})};
  const auto checkpoint = Open(TinyGgufPairs(), TensorsWith(biases));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(Values(*checkpoint, "model.layers.0.self_attn.q_proj.bias"),
              ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(Values(*checkpoint, "model.layers.0.self_attn.k_proj.bias"), ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(Values(*checkpoint, "model.layers.0.self_attn.v_proj.bias"), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(ConfigWith({}, biases)["attention_bias"], true);
  EXPECT_EQ(ConfigWith({}, biases)["mlp_bias"], false);
}

TEST_F(GgufCheckpointTest, OtherFamiliesKeepTheirRows) {
  const auto checkpoint = Open(TinyGgufPairs("qwen2"), TinyGgufTensors());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(RowHeads(*checkpoint, "model.layers.0.self_attn.q_proj.weight", 0, 3),
              ElementsAre(2000, 2008, 2016));
}

TEST_F(GgufCheckpointTest, GemmasNormsComeWithoutTheOneThatWasAdded) {
  const auto checkpoint = Open(TinyGgufPairs("gemma"), TinyGgufTensors());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(Values(*checkpoint, "model.norm.weight")[0], 9'999);
  EXPECT_EQ(Values(*checkpoint, "model.layers.0.input_layernorm.weight")[1], 1'000);
  EXPECT_EQ(Values(*checkpoint, "model.layers.0.mlp.up_proj.weight")[0], 8'000);
  EXPECT_EQ(Values(*checkpoint, "model.embed_tokens.weight")[0], 0);
}

// Rows of 32 elements of Q8_0: scale 1, codes counting.
TEST_F(GgufCheckpointTest, QuantizedRowsAreFloat32) {
  std::string bytes;
  for (int row = 0; row < 8; ++row) {
    bytes += std::string("\x00\x3c", 2);
    for (int i = 0; i < 32; ++i) bytes += static_cast<char>(row + i);
  }
  const auto checkpoint =
      Open(TinyGgufPairs(), TensorsWith({{"blk.0.ffn_down.weight", {8, 32}, kQ8_0, bytes}}));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const StoredTensor& down = **checkpoint->Find("model.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(down.info.dtype, DType::kF32);
  ASSERT_TRUE(down.encoding.has_value());
  EXPECT_EQ(down.encoding->type->name, "Q8_0");
  EXPECT_EQ(StoredSize(down), 8u * 34);
  EXPECT_EQ(*ByteSize(down.info), 8 * 32 * 4);
  EXPECT_EQ(checkpoint->total_bytes(),
            4u * (40 + 8 + 64 + 32 + 32 + 64 + 8 + 2 * 256 + 8) + 8 * 34);
  EXPECT_THAT(RowHeads(*checkpoint, down.info.name, 3, 2), ElementsAre(3, 4));
  EXPECT_EQ(Values(*checkpoint, down.info.name)[7 * 32 + 31], 38);
  // What its bytes are is not what it is.
  std::vector<std::byte> raw(34);
  const absl::Status status = checkpoint->ReadBytes(down, 0, absl::MakeSpan(raw));
  EXPECT_EQ(ReasonOf(status), Reason::kFeatureUnsupported);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor model.layers.0.mlp.down_proj"));
  // Rows that it does not have, and a place that does not hold them.
  EXPECT_EQ(ReasonOf(checkpoint->ReadRows(down, 8, 1).status()), Reason::kTensorShapeInvalid);
  std::vector<float> few(31);
  EXPECT_FALSE(checkpoint->ReadRows(down, 0, 1, absl::MakeSpan(few)).ok());
  EXPECT_TRUE(checkpoint->ReadRows(down, 8, 0).ok());
}

TEST_F(GgufCheckpointTest, PlainTensorsAreAsTheyLie) {
  const auto checkpoint =
      Open(TinyGgufPairs(),
           TensorsWith({HalfTensor("output_norm.weight", {8}, {0.5, 1, 2, 3, 4, 5, 6, 7})}));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const StoredTensor& norm = **checkpoint->Find("model.norm.weight");
  EXPECT_EQ(norm.info.dtype, DType::kF16);
  EXPECT_FALSE(norm.encoding.has_value());
  std::vector<std::byte> raw(2);
  EXPECT_TRUE(checkpoint->ReadBytes(norm, 0, absl::MakeSpan(raw)).ok());
  EXPECT_EQ(raw[1], std::byte{0x38});
  EXPECT_EQ(Values(*checkpoint, "model.norm.weight")[0], 0.5);
}

TEST_F(GgufCheckpointTest, EveryExpertIsATensorOfItsOwn) {
  std::vector<GgufFixture> tensors = TinyGgufTensors();
  std::erase_if(tensors, [](const auto& tensor) {
    return tensor.name.starts_with("blk.0.ffn_g") || tensor.name.starts_with("blk.0.ffn_u") ||
           tensor.name.starts_with("blk.0.ffn_d");
  });
  std::vector<float> values(3 * 32 * 8);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  tensors.push_back(MakeGgufTensor("blk.0.ffn_gate_inp.weight", {3, 8}, std::vector<float>(24)));
  tensors.push_back(MakeGgufTensor("blk.0.ffn_gate_exps.weight", {3, 32, 8}, values));
  tensors.push_back(MakeGgufTensor("blk.0.ffn_up_exps.weight", {3, 32, 8}, values));
  tensors.push_back(MakeGgufTensor("blk.0.ffn_down_exps.weight", {3, 8, 32}, values));
  const std::vector<std::string> pairs =
      PairsWith({GgufPair("llama.expert_count", 3U), GgufPair("llama.expert_used_count", 2U)});
  const auto checkpoint = Open(pairs, tensors);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const std::string experts = "model.layers.0.block_sparse_moe.experts.";
  EXPECT_THAT((*checkpoint->Find(experts + "2.w2.weight"))->info.shape, ElementsAre(8, 32));
  EXPECT_THAT((*checkpoint->Find(experts + "0.w1.weight"))->info.shape, ElementsAre(32, 8));
  EXPECT_EQ(Values(*checkpoint, experts + "1.w3.weight")[5], 256 + 5);
  EXPECT_EQ(Values(*checkpoint, experts + "2.w2.weight")[255], 3 * 256 - 1);
  EXPECT_FALSE(checkpoint->Has(experts + "3.w1.weight"));
  const Json config = ConfigOf(pairs, tensors);
  EXPECT_EQ(config["model_type"], "mixtral");
  EXPECT_EQ(config["num_local_experts"], 3);
  EXPECT_EQ(config["num_experts_per_tok"], 2);
  // Two experts where the config says three.
  tensors.back() =
      MakeGgufTensor("blk.0.ffn_down_exps.weight", {2, 8, 32}, std::vector<float>(512));
  EXPECT_EQ(ReasonOf(Open(pairs, tensors).status()), Reason::kTensorShapeInvalid);
}

TEST_F(GgufCheckpointTest, ExpertsMayBeStoredOneByOne) {
  std::vector<GgufFixture> tensors = TinyGgufTensors();
  for (GgufFixture& tensor : tensors) {
    const size_t dot = tensor.name.rfind('.');
    const std::string base = tensor.name.substr(0, dot);
    if (base.starts_with("blk.0.ffn") && base != "blk.0.ffn_norm") {
      tensor.name = base + ".1" + tensor.name.substr(dot);
    }
  }
  const auto pairs = [](uint32_t experts) {
    return PairsWith(
        {GgufPair("llama.expert_count", experts), GgufPair("llama.expert_used_count", 2U)});
  };
  const auto checkpoint = Open(pairs(2), tensors);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(Values(*checkpoint, "model.layers.0.block_sparse_moe.experts.1.w2.weight")[0], 9000);
  EXPECT_EQ(ReasonOf(Open(pairs(1), tensors).status()), Reason::kFeatureUnsupported);
}

TEST_F(GgufCheckpointTest, AWindowMakesItMistral) {
  const Json config = ConfigWith({GgufPair("llama.attention.sliding_window", 6U)});
  EXPECT_EQ(config["model_type"], "mistral");
  EXPECT_EQ(config["sliding_window"], 6);
  EXPECT_EQ(ConfigWith({GgufPair("llama.attention.sliding_window", 0U)})["model_type"], "llama");
}

TEST_F(GgufCheckpointTest, LinearAndYarnScaling) {
  EXPECT_TRUE(ConfigWith({})["rope_scaling"].is_null());
  EXPECT_TRUE(ConfigWith({GgufPair("llama.rope.scaling.type", "none")})["rope_scaling"].is_null());
  const Json linear = ConfigWith({GgufPair("llama.rope.scaling.type", "linear"),
                                  GgufPair("llama.rope.scaling.factor", 8.0F)})["rope_scaling"];
  EXPECT_EQ(linear, Json::parse(R"({"rope_type": "linear", "factor": 8.0})"));
  EXPECT_EQ(ConfigWith({GgufPair("llama.rope.scale_linear", 8.0F)})["rope_scaling"], linear);
  const Json yarn = ConfigWith({GgufPair("llama.rope.scaling.type", "yarn"),
                                GgufPair("llama.rope.scaling.factor", 4.0F),
                                GgufPair("llama.rope.scaling.original_context_length", 32U)});
  EXPECT_EQ(yarn["rope_scaling"], Json::parse(R"({"rope_type": "yarn", "factor": 4.0,
                            "original_max_position_embeddings": 32})"));
  ExpectRefused({GgufPair("llama.rope.scaling.type", "yarn"),
                 GgufPair("llama.rope.scaling.yarn_ext_factor", 0.5F)},
                {}, Reason::kFeatureUnsupported, {"yarn_ext_factor"});
  ExpectRefused({GgufPair("llama.rope.scaling.type", "spiral")}, {}, Reason::kFeatureUnsupported,
                {"rope.scaling.type", "spiral"});
}

// Head size 4 at base 1e6: frequencies 1 and 0.001.
TEST_F(GgufCheckpointTest, FactorsOfLlama3AreItsRule) {
  const auto scaling_of = [this](std::vector<float> factors) {
    return ConfigWith({GgufPair("llama.rope.freq_base", 1e6F)},
                      {MakeGgufTensor("rope_freqs.weight", {2}, factors)})["rope_scaling"];
  };
  // From 8192 positions the second makes 1.3 turns: between 1 and 4 ...
  const double smooth = (8192 * 0.001 / (2 * 3.14159265358979) - 1) / 3;
  const auto between = static_cast<float>(1 / ((1 - smooth) / 32 + smooth));
  // ... and all that is known of its factor, 32, is what it gave.
  const Json rule = scaling_of({1, between});
  EXPECT_EQ(rule["rope_type"], "llama3");
  EXPECT_EQ(rule["factor"].get<float>(), between);
  EXPECT_EQ(scaling_of({1, 32})["factor"], 32.0);
  EXPECT_EQ(scaling_of({1, 32})["low_freq_factor"], 1.0);
  EXPECT_EQ(scaling_of({1, 32})["high_freq_factor"], 4.0);
  // The rule divides low frequencies more than high ones: these are listed.
  const Json listed = scaling_of({1.5, 1});
  EXPECT_EQ(listed["rope_type"], "longrope");
  EXPECT_EQ(listed["long_factor"], Json::parse("[1.5, 1.0]"));
  EXPECT_EQ(listed["short_factor"], listed["long_factor"]);
  EXPECT_EQ(listed["attention_factor"], 1.0);
  // Ones change nothing.
  EXPECT_TRUE(
      ConfigWith({}, {MakeGgufTensor("rope_freqs.weight", {2}, {1, 1})})["rope_scaling"].is_null());
}

TEST_F(GgufCheckpointTest, RefusesFactorsThatCannotBe) {
  ExpectRefused({}, {MakeGgufTensor("rope_freqs.weight", {3}, {1, 1, 2})},
                Reason::kTensorShapeInvalid, {"rope_freqs.weight", "2 finite numbers"});
  ExpectRefused({}, {MakeGgufTensor("rope_freqs.weight", {2}, {1, NAN})},
                Reason::kTensorShapeInvalid, {"rope_freqs.weight"});
  ExpectRefused({}, {MakeGgufTensor("rope_freqs.weight", {2}, {1, -8})},
                Reason::kTensorShapeInvalid, {"rope_freqs.weight"});
  ExpectRefused({}, {HalfTensor("rope_freqs.weight", {2}, {1, 8})}, Reason::kTensorShapeInvalid,
                {"rope_freqs.weight", "F16"});
  ExpectRefused({}, {MakeGgufTensor("rope_factors_long.weight", {2}, {1, 8})},
                Reason::kTensorShapeInvalid, {"rope_factors_short.weight"});
  ExpectRefused(
      {GgufPair("llama.rope.scaling.type", "linear"), GgufPair("llama.rope.scaling.factor", 8.0F)},
      {MakeGgufTensor("rope_freqs.weight", {2}, {1, 8})}, Reason::kFeatureUnsupported,
      {"rope.scaling.type", "beside"});
}

// So that as many channels come out as went in, whatever the division loses.
TEST_F(GgufCheckpointTest, PartialRotationIsSaid) {
  for (const uint32_t head : {98U, 206U, 254U}) {
    for (uint32_t rotated = 2; rotated < head; rotated += 2) {
      const Json config = ConfigWith({GgufPair("llama.attention.key_length", head),
                                      GgufPair("llama.rope.dimension_count", rotated)});
      const double partial = config["partial_rotary_factor"].get<double>();
      ASSERT_EQ(static_cast<uint32_t>(head * partial), rotated) << "of " << head;
    }
  }
  EXPECT_FALSE(ConfigWith({}).contains("partial_rotary_factor"));
  EXPECT_EQ(ConfigWith({GgufPair("llama.rope.dimension_count", 2U)})["partial_rotary_factor"], 0.5);
}

TEST_F(GgufCheckpointTest, AListOfEqualNumbersIsANumber) {
  std::vector<std::string> pairs = TinyGgufPairs();
  const auto with = [&pairs](uint32_t first, uint32_t second) {
    std::vector<std::string> changed = pairs;
    changed[6] =
        GgufArrayPair("llama.attention.head_count_kv", 4, 2, GgufU32(first) + GgufU32(second));
    return changed;
  };
  EXPECT_EQ(ConfigOf(with(1, 1), TinyGgufTensors())["num_key_value_heads"], 1);
  const auto checkpoint = Open(with(1, 2), TinyGgufTensors());
  EXPECT_EQ(ReasonOf(checkpoint.status()), Reason::kFeatureUnsupported);
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("head_count_kv"));
}

TEST_F(GgufCheckpointTest, RefusesWhatItDoesNotKnow) {
  const auto weight = [](const char* name) {
    return MakeGgufTensor(name, {8, 8}, std::vector<float>(64));
  };
  for (const char* name :
       {"blk.0.attn_spin.weight", "blk.0.attn_q.weight.lora_a", "blk.1.attn_q.weight",
        "blk.00.attn_q.weight", "blk.-1.attn_q.weight", "blk.attn_q.weight", "blk.0.attn_q",
        "blk.0.ffn_gate_exps.weight", "blk.0.ffn_up.0.weight", "blk.0", "blk.0.", "blk.", "head",
        "blk.99999999999999999999.attn_q.weight", "token_embd.bias", "blk.0.attn_norm.bias",
        "blk.0.token_embd.weight", "attn_q.weight"}) {
    ExpectRefused({}, {weight(name)}, Reason::kFeatureUnsupported,
                  {std::string("tensor ") + name + ":"});
  }
  ExpectRefused({GgufPair("llama.logit_scale", 0.5F)}, {}, Reason::kFeatureUnsupported,
                {"key llama.logit_scale"});
  ExpectRefused({GgufPair("llama.attention.causal", false)}, {}, Reason::kFeatureUnsupported,
                {"key llama.attention.causal"});
  ExpectRefused({GgufPair("llama.attention.value_length", 8U)}, {}, Reason::kFeatureUnsupported,
                {"value_length"});
}

TEST_F(GgufCheckpointTest, NamesTheArchitecturesThatItKnows) {
  const auto checkpoint = Open(TinyGgufPairs("mamba"), TinyGgufTensors());
  EXPECT_EQ(ReasonOf(checkpoint.status()), Reason::kFamilyUnsupported);
  const std::string message(checkpoint.status().message());
  for (const char* name : {"dir/m.gguf", "\"mamba\"", "llama", "qwen2", "qwen3", "qwen3moe",
                           "qwen2moe", "gemma", "gemma2", "gemma3", "phi3", "olmo2"}) {
    EXPECT_THAT(message, HasSubstr(name));
  }
  EXPECT_EQ(ReasonOf(Open({}, TinyGgufTensors()).status()), Reason::kConfigInvalid);
  EXPECT_EQ(ReasonOf(Open({GgufPair("general.architecture", 1U)}, {}).status()),
            Reason::kConfigInvalid);
}

TEST_F(GgufCheckpointTest, RefusesBadSettings) {
  const std::vector<std::string> good = TinyGgufPairs();
  const struct {
    size_t index;
    std::string pair;  // in its place; none if empty
    const char* key;
  } cases[] = {
      {2, "", "embedding_length"},
      {3, "", "block_count"},
      {5, "", "head_count"},
      {7, "", "layer_norm_rms_epsilon"},
      {2, GgufPair("llama.embedding_length", "8"), "embedding_length"},
      {2, GgufRawPair("llama.embedding_length", 5, GgufU32(UINT32_MAX)), "embedding_length"},
      {2, GgufRawPair("llama.embedding_length", 10, GgufU64(UINT64_MAX)), "embedding_length"},
      {3, GgufPair("llama.block_count", 100'000U), "block_count"},
      {5, GgufPair("llama.attention.head_count", 0U), "head_count"},
      {6, GgufArrayPair("llama.attention.head_count_kv", 4, 0, ""), "head_count_kv"},
      {7, GgufPair("llama.attention.layer_norm_rms_epsilon", NAN), "layer_norm_rms_epsilon"},
      {7, GgufPair("llama.attention.layer_norm_rms_epsilon", 1U), "layer_norm_rms_epsilon"},
  };
  for (const auto& each : cases) {
    std::vector<std::string> pairs = good;
    if (each.pair.empty()) {
      pairs.erase(pairs.begin() + static_cast<int64_t>(each.index));
    } else {
      pairs[each.index] = each.pair;
    }
    const auto checkpoint = Open(pairs, TinyGgufTensors());
    EXPECT_EQ(ReasonOf(checkpoint.status()), Reason::kConfigInvalid) << each.key;
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(each.key));
  }
}

TEST_F(GgufCheckpointTest, RefusesShapesThatTheirNamesRuleOut) {
  ExpectRefused({}, {MakeGgufTensor("blk.0.ffn_down.weight", {256}, std::vector<float>(256))},
                Reason::kTensorShapeInvalid, {"blk.0.ffn_down.weight", "not that of a matrix"});
  ExpectRefused({}, {MakeGgufTensor("output_norm.weight", {1, 8}, std::vector<float>(8))},
                Reason::kTensorShapeInvalid, {"output_norm.weight", "vector"});
  ExpectRefused({}, {MakeGgufTensor("blk.0.ffn_up.weight", {2, 16, 8}, std::vector<float>(256))},
                Reason::kTensorShapeInvalid, {"blk.0.ffn_up.weight"});
  ExpectRefused({}, {MakeGgufTensor("token_embd.weight", {}, {1})}, Reason::kTensorShapeInvalid,
                {"token_embd.weight"});
  ExpectRefused({}, {MakeGgufTensor("blk.0.attn_q.weight", {6, 8}, std::vector<float>(48))},
                Reason::kTensorShapeInvalid, {"blk.0.attn_q.weight", "6 rows", "2 heads"});
  ExpectRefused({}, {{"blk.0.attn_q.bias", {32}, kQ8_0, std::string(34, '\0')}},
                Reason::kDtypeUnsupported, {"blk.0.attn_q.bias"});
  std::vector<GgufFixture> tensors = TinyGgufTensors();
  tensors.erase(tensors.begin());
  EXPECT_EQ(ReasonOf(Open(TinyGgufPairs(), tensors).status()), Reason::kTensorMissing);
}

// As llama-gguf-split writes it: the settings in the first file.
TEST_F(GgufCheckpointTest, ASplitModelIsOneModel) {
  const std::vector<GgufFixture> tensors = TinyGgufTensors();
  const auto part = [&](uint16_t index, size_t begin, size_t end) {
    std::vector<std::string> pairs = index == 0 ? TinyGgufPairs() : std::vector<std::string>();
    pairs.push_back(GgufPair("split.no", uint32_t{index}));
    pairs.push_back(GgufPair("split.count", 3U));
    storage_.Put("dir/m-0000" + std::to_string(index + 1) + "-of-00003.gguf",
                 ToBytes(GgufFile(pairs, {tensors.begin() + static_cast<int64_t>(begin),
                                          tensors.begin() + static_cast<int64_t>(end)})));
  };
  part(0, 0, 1);
  part(1, 1, 6);
  part(2, 6, 11);
  const auto open = [this](const char* name) { return Checkpoint::Open(storage_, name); };
  const auto split = open("dir/m-00001-of-00003.gguf");
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->shards().size(), 3u);
  const auto whole = Open(TinyGgufPairs(), tensors);
  EXPECT_EQ(split->config_text(), whole->config_text());
  ASSERT_EQ(split->tensors().size(), whole->tensors().size());
  for (const StoredTensor& tensor : whole->tensors()) {
    EXPECT_EQ(Values(*split, tensor.info.name), Values(*whole, tensor.info.name));
  }
  const auto expect_refused = [&](const char* name, Reason reason, const char* word) {
    const auto checkpoint = open(name);
    EXPECT_EQ(ReasonOf(checkpoint.status()), reason) << checkpoint.status();
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(word));
  };
  expect_refused("dir/m-00002-of-00003.gguf", Reason::kIndexInvalid, "-00001-of-00003.gguf");
  storage_.Put("dir/m-00003-of-00003.gguf",
               ToBytes(GgufFile({}, {MakeGgufTensor("blk.0.spin.weight", {1}, {1})})));
  expect_refused("dir/m-00001-of-00003.gguf", Reason::kFeatureUnsupported,
                 "m-00003-of-00003.gguf: tensor blk.0.spin.weight");
  part(2, 5, 11);
  expect_refused("dir/m-00001-of-00003.gguf", Reason::kIndexInvalid,
                 "m-00003-of-00003.gguf: tensor model.layers.0.self_attn.o_proj.weight");
  storage_.Remove("dir/m-00003-of-00003.gguf");
  expect_refused("dir/m-00001-of-00003.gguf", Reason::kSourceNotFound, "m-00003-of-00003.gguf");
  ExpectRefused({GgufPair("split.count", 2000U)}, {}, Reason::kConfigInvalid, {"split.count"});
}

TEST_F(GgufCheckpointTest, AChangedFileIsNoticed) {
  const auto checkpoint = Open(TinyGgufPairs(), TinyGgufTensors());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->CheckUnchanged().ok());
  const auto missing = Checkpoint::Open(storage_, "dir/other.gguf");
  EXPECT_EQ(ReasonOf(missing.status()), Reason::kSourceNotFound) << missing.status();
}

TEST_F(GgufCheckpointTest, ADirectoryOfGgufSaysWhatToGive) {
  storage_.Put("dir/config.json", ToBytes("{}"));
  storage_.Put("dir/m.gguf", ToBytes("GGUF"));
  const auto checkpoint = Checkpoint::Open(storage_, "dir");
  EXPECT_EQ(ReasonOf(checkpoint.status()), Reason::kNotACheckpoint);
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("give that file itself"));
}

// A real model that its author published in both formats.
TEST(GgufModel, IsTheSameModelAsItsSafetensors) {
  LINCHPIN_NEEDS_SHARED();
  const auto storage = LocalStorage::Create({{SharedPath("").string()}, {}, true});
  ASSERT_TRUE(storage.ok()) << storage.status();
  const auto open = [&](std::string_view path) {
    return Checkpoint::Open(**storage, SharedPath(path).string());
  };
  const auto gguf = open("models/stories260k/stories260K-f32.gguf");
  const auto reference = open("models/stories260k/hf-f32");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  ASSERT_TRUE(reference.ok()) << reference.status();
  ASSERT_EQ(gguf->tensors().size(), reference->tensors().size());
  for (const StoredTensor& tensor : reference->tensors()) {
    const auto found = gguf->Find(tensor.info.name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ((*found)->info, tensor.info);
    const std::vector<float> a = Values(*gguf, tensor.info.name);
    const std::vector<float> b = Values(*reference, tensor.info.name);
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << tensor.info.name;
  }
  Json ours = *ParseJson("gguf", gguf->config_text(), Reason::kConfigInvalid);
  const Json theirs = *ParseJson("hf", reference->config_text(), Reason::kConfigInvalid);
  EXPECT_EQ(ours["head_dim"], 8);  // theirs leaves it to be computed
  for (const auto& [key, value] : theirs.items()) {
    if (key == "architectures" || key == "torch_dtype") continue;
    EXPECT_EQ(ours[key], value) << key;
  }
}

}  // namespace
}  // namespace linchpin
