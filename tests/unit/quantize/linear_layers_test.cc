#include "quantize/linear_layers.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Of a checkpoint that has these matrices and a family that nobody knows.
LinearLayers LayersOf(const std::vector<std::string>& names) {
  MemoryStorage storage;
  storage.Put("m/config.json", ToBytes(R"({"model_type": "nobody"})"));
  std::vector<TensorFixture> tensors;
  for (const std::string& name : names) {
    tensors.push_back(MakeCountingTensor(name, DType::kBF16, {4, 4}));
  }
  storage.Put("m/model.safetensors", ToBytes(SafetensorsFile(tensors)));
  const auto checkpoint = Checkpoint::Open(storage, "m");
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto layers = LinearLayersOf(*checkpoint);
  EXPECT_TRUE(layers.ok()) << layers.status();
  return layers.value_or(LinearLayers{});
}

TEST(LinearLayersTest, ByNameTheyAreThoseOfTheDescription) {
  const auto roles = [](const std::string& family) {
    MemoryStorage storage;
    PutTinyCheckpoint(storage, "m");
    std::string config = ToText(storage.Get("m/config.json"));
    config.replace(config.find("llama"), 5, family);
    storage.Put("m/config.json", ToBytes(config));
    const auto checkpoint = Checkpoint::Open(storage, "m");
    return LinearLayersOf(*checkpoint)->roles;
  };
  const TensorRoles described = roles("llama");
  const TensorRoles named = roles("nobody");
  size_t linear = 0;
  for (const auto& [name, role] : described) {
    if (!role.other.empty()) {
      EXPECT_FALSE(named.contains(name)) << name;
      continue;
    }
    ++linear;
    ASSERT_TRUE(named.contains(name)) << name;
    EXPECT_FALSE(named.at(name).transposed);
    EXPECT_FALSE(named.at(name).expert);
    // What is fused by the one is fused by the other.
    for (const auto& [other, its] : described) {
      if (!its.other.empty()) continue;
      EXPECT_EQ(role.fused == its.fused, named.at(name).fused == named.at(other).fused)
          << name << " and " << other;
    }
  }
  EXPECT_EQ(linear, 14U);
  EXPECT_EQ(named.size(), linear);
}

TEST(LinearLayersTest, ExpertsOfALayerAreFused) {
  const LinearLayers layers = LayersOf({"language_model.layers.0.mlp.experts.0.gate_proj.weight",
                                        "language_model.layers.0.mlp.experts.11.down_proj.weight",
                                        "language_model.layers.1.mlp.experts.0.gate_proj.weight",
                                        "language_model.layers.0.mlp.gate.weight"});
  const TensorRoles& roles = layers.roles;
  ASSERT_EQ(roles.size(), 3U) << "a router is no linear layer";
  const TensorRole& first = roles.at("language_model.layers.0.mlp.experts.0.gate_proj.weight");
  const TensorRole& second = roles.at("language_model.layers.0.mlp.experts.11.down_proj.weight");
  const TensorRole& later = roles.at("language_model.layers.1.mlp.experts.0.gate_proj.weight");
  EXPECT_TRUE(first.expert && second.expert && later.expert);
  EXPECT_EQ(first.fused, second.fused);
  EXPECT_NE(first.fused, later.fused);
  EXPECT_THAT(layers.note, HasSubstr("not known"));
}

TEST(LinearLayersTest, WhatSomeFamilyStoresTransposedIsTakenForTransposed) {
  const LinearLayers layers = LayersOf({"h.0.attn.c_proj.weight"});
  EXPECT_TRUE(layers.roles.at("h.0.attn.c_proj.weight").transposed);
}

TEST(LinearLayersTest, OtherNamesAreNone) {
  EXPECT_THAT(LayersOf({"lm_head.weight", "model.embed_tokens.weight", "q_proj.weight",
                        "model.layers.0.self_attn.q_proj", "model.layers.0.mixer.weight",
                        "model.layers.x.self_attn.q_proj.weight"})
                  .roles,
              IsEmpty());
}

TEST(LinearLayersTest, AConfigThatIsWrongIsStillRefused) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "m");
  storage.Put("m/config.json", ToBytes(R"({"model_type": "llama", "hidden_size": -1})"));
  const auto checkpoint = Checkpoint::Open(storage, "m");
  EXPECT_EQ(ReasonOf(LinearLayersOf(*checkpoint).status()), Reason::kConfigInvalid);
}

}  // namespace
}  // namespace linchpin
