#include "format/shard_index.h"

#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void ExpectRefused(std::string_view json, const std::string& word) {
  const auto index = ParseShardIndex("m.index.json", json);
  ASSERT_FALSE(index.ok()) << json;
  EXPECT_EQ(ReasonOf(index.status()), Reason::kIndexInvalid) << index.status();
  EXPECT_THAT(std::string(index.status().message()),
              AllOf(HasSubstr("m.index.json"), HasSubstr(word)));
}

TEST(ShardIndex, ReadsTheMapAndTheSize) {
  const auto index = ParseShardIndex("i", R"({"metadata": {"total_size": 12, "total_parameters": 3},
    "weight_map": {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}})");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->total_size, 12u);
  ASSERT_EQ(index->weight_map.size(), 2u);
  EXPECT_EQ(index->weight_map.at("b"), "model-00002-of-00002.safetensors");
}

TEST(ShardIndex, DoesNotNeedAPlausibleSize) {
  for (const char* metadata :
       {"", R"("metadata": {},)", R"("metadata": null,)", R"("metadata": {"total_size": 1.5e10},)",
        R"("metadata": {"total_size": -1},)", R"("metadata": {"total_size": "12"},)",
        R"("metadata": [],)"}) {
    const auto index = ParseShardIndex(
        "i", "{" + std::string(metadata) + R"("weight_map": {"a": "x.safetensors"}})");
    ASSERT_TRUE(index.ok()) << metadata << index.status();
    EXPECT_EQ(index->total_size, 0u);
  }
}

TEST(ShardIndex, RefusesWhatIsNoIndex) {
  for (const char* json : {"", "[]", "null", "{}", R"({"weight_map": {}})", R"({"weight_map": []})",
                           R"({"weight_map": null})"}) {
    ExpectRefused(json, "");
  }
  ExpectRefused(R"({"weight_map": {"a": 1}})", "tensor a");
  ExpectRefused(R"({"weight_map": {"a": null}})", "tensor a");
  ExpectRefused(R"({"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}})",
                "duplicate key \"a\"");
}

TEST(ShardIndex, RefusesNamesThatAreNotPlainFilesNamingTheTensor) {
  for (const char* name :
       {"../x.safetensors", "a/x.safetensors", "/etc/x.safetensors", "..\\\\x.safetensors",
        "a\\\\x.safetensors", "%2e%2e%2fx.safetensors", "x%00.safetensors", "x\\u0000.safetensors",
        "x\\n.safetensors", "x.bin", "x.safetensors.bin", ".safetensors", ".hidden.safetensors", "",
        "..", "a..b.safetensors", "file:x.safetensors", "x.SAFETENSORS"}) {
    ExpectRefused(R"({"weight_map": {"the.tensor": ")" + std::string(name) + R"("}})",
                  "tensor the.tensor");
  }
  ExpectRefused(R"({"weight_map": {"t": ")" + std::string(250, 'a') + R"(.safetensors"}})",
                "tensor t");
}

TEST(IsShardName, AllowsWhatCheckpointsUse) {
  for (const char* name : {"model.safetensors", "model-00001-of-00191.safetensors",
                           "diffusion_pytorch_model.fp16.safetensors", "gewicht é.safetensors"}) {
    EXPECT_TRUE(IsShardName(name)) << name;
  }
}

TEST(SerializeShardIndex, ComesBackAndHasStableText) {
  const ShardIndex index{7, {{"b", "y.safetensors"}, {"a \"q\"", "x.safetensors"}}};
  const std::string text = SerializeShardIndex(index);
  EXPECT_EQ(text,
            "{\n  \"metadata\": {\n    \"total_size\": 7\n  },\n  \"weight_map\": {\n"
            "    \"a \\\"q\\\"\": \"x.safetensors\",\n    \"b\": \"y.safetensors\"\n  }\n}\n");
  const auto parsed = ParseShardIndex("i", text);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->total_size, index.total_size);
  EXPECT_EQ(parsed->weight_map, index.weight_map);
}

}  // namespace
}  // namespace linchpin
