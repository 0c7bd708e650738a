#include "artifact/lora_adapter.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kRows = 5, kColumns = 7;

std::vector<float> FloatsAt(const std::string& file, uint64_t begin, uint64_t end) {
  std::vector<float> values((end - begin) / sizeof(float));
  std::memcpy(values.data(), file.data() + begin, end - begin);
  return values;
}

// up [rows, rank] x down [rank, columns].
std::vector<float> Product(const std::vector<float>& up, const std::vector<float>& down) {
  const auto rank = static_cast<int64_t>(down.size()) / kColumns;
  std::vector<float> product(kRows * kColumns);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kColumns; ++column) {
      for (int64_t r = 0; r < rank; ++r) {
        product[row * kColumns + column] += up[row * rank + r] * down[r * kColumns + column];
      }
    }
  }
  return product;
}

std::vector<float> Expected(const AdaptedWeight& weight) {
  std::vector<float> values(kRows * kColumns);
  for (const auto& miss : weight.misses) values[miss.row * kColumns + miss.column] = miss.value;
  return values;
}

std::vector<AdaptedWeight> SomeWeights() {
  return {{"model.layers.1.mlp.down_proj.weight", kRows, kColumns, {{3, 6, 5.875F}}},
          {"model.layers.2.mlp.down_proj.weight",
           kRows,
           kColumns,
           {{1, 2, -0.7F}, {1, 4, 3.5F}, {4, 2, 0.25F}}},
          {"model.layers.3.mlp.down_proj.weight",
           kRows,
           kColumns,
           {{0, 2, 1.0F}, {1, 2, 3.5F}, {4, 2, 0.25F}}}};
}

TEST(LoraAdapterTest, TheProductOfPeftsFactorsIsWhatIsMissing) {
  const std::vector<AdaptedWeight> weights = SomeWeights();
  const std::vector<AdapterFile> files = PeftAdapter(weights);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "adapter/adapter_config.json");
  EXPECT_EQ(files[1].name, "adapter/adapter_model.safetensors");
  const std::string& file = files[1].bytes;
  const auto* bytes = reinterpret_cast<const std::byte*>(file.data());
  const uint64_t length = *SafetensorsHeaderLength("f", {bytes, file.size()}, file.size());
  const auto header =
      ParseSafetensorsHeader("f", std::string_view(file).substr(8, length), file.size());
  ASSERT_TRUE(header.ok()) << header.status();
  std::map<std::string, std::vector<float>> tensors;
  for (const SafetensorsEntry& entry : header->entries) {
    tensors[entry.info.name] = FloatsAt(file, entry.begin, entry.end);
  }
  ASSERT_EQ(tensors.size(), 6U);
  for (const AdaptedWeight& weight : weights) {
    const std::string stem =
        "base_model.model." + weight.name.substr(0, weight.name.size() - 7);  // ".weight"
    EXPECT_EQ(Product(tensors.at(stem + ".lora_B.weight"), tensors.at(stem + ".lora_A.weight")),
              Expected(weight));
  }
}

TEST(LoraAdapterTest, PeftsConfigNamesEveryModuleAndScalesByOne) {
  const std::vector<AdapterFile> files = PeftAdapter(SomeWeights());
  const auto config = ParseJson("config", files[0].bytes, Reason::kConfigInvalid);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["peft_type"], "LORA");
  EXPECT_EQ((*config)["r"], 2) << "one rank per row, or per column where they are fewer";
  EXPECT_EQ((*config)["lora_alpha"], (*config)["r"]);
  EXPECT_THAT((*config)["target_modules"].get<std::vector<std::string>>(),
              ElementsAre("model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj",
                          "model.layers.3.mlp.down_proj"));
}

TEST(LoraAdapterTest, OneSuperWeightNeedsOneRank) {
  const std::vector<AdapterFile> files = PeftAdapter({SomeWeights()[0]});
  EXPECT_EQ((*ParseJson("config", files[0].bytes, Reason::kConfigInvalid))["r"], 1);
}

TEST(LoraAdapterTest, TheProductOfGgufsFactorsIsWhatIsMissing) {
  std::vector<AdaptedWeight> weights = SomeWeights();
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i].name = "blk." + std::to_string(i) + ".ffn_down.weight";
  }
  const auto adapter = GgufAdapter("llama", weights);
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_EQ(adapter->name, "super-weights-lora.gguf");
  const std::string& file = adapter->bytes;
  const auto header = ParseGgufHeader("f", file, file.size());
  ASSERT_TRUE(header.ok() && header->has_value()) << header.status();
  const auto& metadata = (*header)->metadata;
  EXPECT_EQ(std::get<std::string_view>(metadata.at("general.type")), "adapter");
  EXPECT_EQ(std::get<std::string_view>(metadata.at("general.architecture")), "llama");
  EXPECT_EQ(std::get<std::string_view>(metadata.at("adapter.type")), "lora");
  EXPECT_EQ(std::get<float>(metadata.at("adapter.lora.alpha")), 2);
  std::map<std::string, std::vector<float>> tensors;
  for (const GgufTensor& tensor : (*header)->tensors) {
    tensors[tensor.name] = FloatsAt(file, tensor.begin, tensor.end);
  }
  for (const AdaptedWeight& weight : weights) {
    EXPECT_EQ(Product(tensors.at(weight.name + ".lora_b"), tensors.at(weight.name + ".lora_a")),
              Expected(weight));
  }
}

}  // namespace
}  // namespace linchpin
