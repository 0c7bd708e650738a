// Tests of GgufTemplate::Make.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/config_difference.h"
#include "checkpoint/gguf_template.h"
#include "checkpoint/pre_tokenizer.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

constexpr int64_t kRows = 258;

Json Tokenizer() {
  Json vocabulary = Json::object();
  int id = 0;
  for (const std::string& character : ByteCharacters()) vocabulary[character] = id++;
  return {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model", {{"type", "BPE"}, {"merges", Json::array()}, {"vocab", vocabulary}}}};
}

Json LlamaConfig() {
  return Json::parse(R"({"model_type": "llama", "hidden_size": 8, "intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "vocab_size": 258, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
    "tie_word_embeddings": true})");
}

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes LlamaShapes() {
  const std::string layer = "model.layers.0.";
  return {
      {"model.embed_tokens.weight", {kRows, 8}},   {"model.norm.weight", {8}},
      {layer + "input_layernorm.weight", {8}},     {layer + "post_attention_layernorm.weight", {8}},
      {layer + "self_attn.q_proj.weight", {8, 8}}, {layer + "self_attn.k_proj.weight", {4, 8}},
      {layer + "self_attn.v_proj.weight", {4, 8}}, {layer + "self_attn.o_proj.weight", {8, 8}},
      {layer + "mlp.gate_proj.weight", {32, 8}},   {layer + "mlp.up_proj.weight", {32, 8}},
      {layer + "mlp.down_proj.weight", {8, 32}}};
}

class GgufMadeTemplateTest : public ::testing::Test {
 protected:
  absl::StatusOr<GgufTemplate> Make(const Json& config, const Shapes& shapes,
                                    bool with_tokenizer = true) {
    std::vector<TensorFixture> tensors;
    int seed = 0;
    for (const auto& [name, shape] : shapes) {
      tensors.push_back(MakeCountingTensor(name, DType::kF32, shape, ++seed));
    }
    storage_.Put("m/config.json", ToBytes(config.dump()));
    storage_.Put("m/model.safetensors", ToBytes(SafetensorsFile(tensors)));
    if (with_tokenizer) storage_.Put("m/tokenizer.json", ToBytes(Tokenizer().dump()));
    auto checkpoint = Checkpoint::Open(storage_, "m");
    if (!checkpoint.ok()) return checkpoint.status();
    checkpoint_.emplace(*std::move(checkpoint));
    return GgufTemplate::Make(*checkpoint_);
  }

  void ExpectRefused(const Json& config, const Shapes& shapes, std::string_view why) {
    const auto made = Make(config, shapes);
    EXPECT_EQ(ReasonOf(made.status()), Reason::kFeatureUnsupported) << made.status();
    EXPECT_THAT(std::string(made.status().message()), HasSubstr(std::string(why)));
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> checkpoint_;
};

std::set<std::string> NamesOf(const GgufTemplate& made) {
  std::set<std::string> names;
  for (const GgufSlot& slot : made.slots()) names.insert(slot.tensor.name);
  return names;
}

const GgufSlot& Slot(const GgufTemplate& made, std::string_view name) {
  return *std::find_if(made.slots().begin(), made.slots().end(),
                       [&](const GgufSlot& slot) { return slot.tensor.name == name; });
}

TEST_F(GgufMadeTemplateTest, EveryTensorOfTheModelHasItsSlot) {
  const auto made = Make(LlamaConfig(), LlamaShapes());
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->slots().size(), LlamaShapes().size());
  for (const GgufSlot& slot : made->slots()) ASSERT_EQ(slot.parts.size(), 1U) << slot.tensor.name;
  EXPECT_EQ(Slot(*made, "blk.0.attn_q.weight").parts[0].encoding->heads, 2);
  EXPECT_EQ(Slot(*made, "blk.0.attn_k.weight").parts[0].encoding->heads, 1);
  EXPECT_EQ(Slot(*made, "blk.0.ffn_down.weight").parts[0].info.name,
            "model.layers.0.mlp.down_proj.weight");
  EXPECT_THAT(made->notes(), ElementsAre(HasSubstr("config.json and tokenizer.json")));
}

TEST_F(GgufMadeTemplateTest, ATiedHeadIsLeftOutThoughItIsStored) {
  Shapes shapes = LlamaShapes();
  shapes["lm_head.weight"] = {kRows, 8};
  const auto tied = Make(LlamaConfig(), shapes);
  ASSERT_TRUE(tied.ok()) << tied.status();
  EXPECT_FALSE(NamesOf(*tied).contains("output.weight"));
  Json config = LlamaConfig();
  config["tie_word_embeddings"] = false;
  const auto untied = Make(config, shapes);
  ASSERT_TRUE(untied.ok()) << untied.status();
  EXPECT_TRUE(NamesOf(*untied).contains("output.weight"));
}

TEST_F(GgufMadeTemplateTest, ExpertsShareOneSlot) {
  Json config = LlamaConfig();
  config["model_type"] = "mixtral";
  config["num_local_experts"] = 3;
  config["sliding_window"] = nullptr;
  Shapes shapes = LlamaShapes();
  const std::string layer = "model.layers.0.";
  for (const char* name : {"gate", "up", "down"}) {
    shapes.erase(layer + "mlp." + name + "_proj.weight");
  }
  shapes[layer + "block_sparse_moe.gate.weight"] = {3, 8};
  for (int expert = 0; expert < 3; ++expert) {
    const std::string prefix = layer + "block_sparse_moe.experts." + std::to_string(expert) + ".";
    shapes[prefix + "w1.weight"] = shapes[prefix + "w3.weight"] = {32, 8};
    shapes[prefix + "w2.weight"] = {8, 32};
  }
  const auto made = Make(config, shapes);
  ASSERT_TRUE(made.ok()) << made.status();
  const GgufSlot& down = Slot(*made, "blk.0.ffn_down_exps.weight");
  EXPECT_THAT(down.tensor.shape, ElementsAre(3, 8, 32));
  ASSERT_EQ(down.parts.size(), 3U);
  EXPECT_EQ(down.parts[2].info.name, layer + "block_sparse_moe.experts.2.w2.weight");

  shapes.erase(layer + "block_sparse_moe.experts.1.w2.weight");
  EXPECT_EQ(ReasonOf(Make(config, shapes).status()), Reason::kTensorMissing);
}

TEST_F(GgufMadeTemplateTest, RotaryFactorsAreATensorOfTheFile) {
  Json config = LlamaConfig();
  config["head_dim"] = 4;
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 3.0},
                            {"original_max_position_embeddings", 16}};
  const auto made = Make(config, LlamaShapes());
  ASSERT_TRUE(made.ok()) << made.status() << "; not even a published rule";
  const GgufSlot& slot = Slot(*made, "rope_freqs.weight");
  EXPECT_TRUE(slot.parts.empty());
  std::vector<float> factors(2);
  ASSERT_TRUE(made->ReadBytes(slot, 0, {reinterpret_cast<std::byte*>(factors.data()), 8}).ok());
  EXPECT_FLOAT_EQ(factors[1], 8) << "a wave of 628 positions";
  EXPECT_GE(factors[0], 1);
  EXPECT_LT(factors[0], 8);
}

TEST_F(GgufMadeTemplateTest, WhatHasNoPlaceIsRefusedByName) {
  Shapes shapes = LlamaShapes();
  shapes["model.layers.0.self_attn.q_norm.weight"] = {4};
  ExpectRefused(LlamaConfig(), shapes, "tensor model.layers.0.self_attn.q_norm.weight");
  shapes = LlamaShapes();
  shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = {2};
  EXPECT_TRUE(Make(LlamaConfig(), shapes).ok()) << "follows from the config";
}

TEST_F(GgufMadeTemplateTest, SettingsThatAFileCannotSayAreRefusedByName) {
  Json config = LlamaConfig();
  config["hidden_act"] = "relu";
  ExpectRefused(config, LlamaShapes(), "its activation");
  config = LlamaConfig();
  config["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", 2.0}};
  ExpectRefused(config, LlamaShapes(), "its rope type");
  config = LlamaConfig();
  config["model_type"] = "mistral";
  config["sliding_window"] = 16;
  ExpectRefused(config, LlamaShapes(), "its tokens see 16 others");
  config["sliding_window"] = 64;
  EXPECT_TRUE(Make(config, LlamaShapes()).ok()) << "as many as there are";
}

TEST_F(GgufMadeTemplateTest, AModelWithoutATokenizerIsRefused) {
  const auto made = Make(LlamaConfig(), LlamaShapes(), false);
  EXPECT_EQ(ReasonOf(made.status()), Reason::kFeatureUnsupported);
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("no tokenizer.json"));
}

TEST(ConfigDifferenceTest, TheSameModelInOtherWordsDoesNotDiffer) {
  Json old = LlamaConfig();
  old["rope_theta"] = 5e5;
  Json since = LlamaConfig();
  since["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  const auto mine = ModelConfig::Parse("a", old.dump());
  const auto theirs = ModelConfig::Parse("b", since.dump());
  ASSERT_TRUE(mine.ok() && theirs.ok());
  EXPECT_FALSE(FirstDifference(*mine, *theirs).has_value());
}

TEST(ConfigDifferenceTest, EverySettingOfTheForwardPassIsCompared) {
  const auto mine = ModelConfig::Parse("a", LlamaConfig().dump());
  ASSERT_TRUE(mine.ok());
  const std::map<std::string, Json> changes = {
      {"intermediate size", {{"intermediate_size", 64}}},
      {"norm epsilon", {{"rms_norm_eps", 1e-6}}},
      {"number of layers", {{"num_hidden_layers", 2}}},
      {"number of key-value heads", {{"num_key_value_heads", 2}}},
      {"vocabulary", {{"vocab_size", 300}}},
      {"rope theta", {{"rope_theta", 10001}}},
      {"rope type", {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}}}},
      {"activation", {{"hidden_act", "gelu"}}}};
  for (const auto& [setting, change] : changes) {
    Json config = LlamaConfig();
    config.update(change);
    const auto theirs = ModelConfig::Parse("b", config.dump());
    ASSERT_TRUE(theirs.ok()) << theirs.status();
    const auto difference = FirstDifference(*mine, *theirs);
    ASSERT_TRUE(difference.has_value()) << setting;
    EXPECT_THAT(difference->setting, HasSubstr(setting));
  }
}

}  // namespace
}  // namespace linchpin
