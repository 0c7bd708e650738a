#include "artifact/manifest.h"

#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quantize/group_encoder.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> KeysOf(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

TEST(ShortestNumberTest, ReadsBackAsTheSameFloat) {
  for (const float value : {5.8757F, 0.1F, -24881.6F, 1e-30F, 3.4028235e38F, 0.0F}) {
    const Json json = ShortestNumber(value);
    EXPECT_EQ(static_cast<float>(json.get<double>()), value);
  }
  EXPECT_EQ(ShortestNumber(5.8757F).dump(), "5.8757");
  EXPECT_EQ(ShortestNumber(std::numeric_limits<float>::quiet_NaN()).dump(), "null");
  EXPECT_EQ(ShortestNumber(-std::numeric_limits<float>::infinity()).dump(), "null");
}

TEST(DetectionToJsonTest, HasTheDocumentedKeys) {
  const Json json = DetectionToJson(SomeDetection());
  EXPECT_THAT(KeysOf(json),
              ElementsAre("verdict", "super_weights", "super_activations", "super_experts",
                          "layers", "proof", "study", "prompt", "thresholds", "published",
                          "stability", "weight_only", "notes"));
  EXPECT_EQ(json["verdict"], "several");
  const Json& weight = json["super_weights"][0];
  EXPECT_EQ(weight["tensor"], "model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(weight["row"], 3);
  EXPECT_EQ(weight["column"], 77);
  EXPECT_EQ(weight["value"].dump(), "5.8757");
  EXPECT_EQ(weight["class"], "critical");
  for (const char* unknown : {"expert", "weight_only_rank", "agreement"}) {
    ASSERT_TRUE(weight.contains(unknown));
    EXPECT_TRUE(weight[unknown].is_null());
  }
  EXPECT_EQ(weight["published"], false);
  EXPECT_EQ(json["published"].dump(), R"({"model":null,"missing":[]})");
  EXPECT_EQ(json["super_activations"][0]["carrier"], "many");
  EXPECT_EQ(json["layers"][0]["down_proj_input"].dump(),
            R"({"token":9,"channel":173,"value":-7.61})");
  EXPECT_THAT(KeysOf(json["layers"][0]["residual"]),
              ElementsAre("token", "channel", "value", "median_abs"));
  EXPECT_EQ(json["proof"]["window"], 256);
  EXPECT_EQ(json["proof"]["alone"][0]["interval"].dump(), "[4.9,6.2]");
  EXPECT_EQ(json["proof"]["alone"][0]["kl"], 1.61);
  EXPECT_EQ(
      json["proof"]["alone"][0]["changed"].dump(),
      R"([{"tensor":"model.layers.1.mlp.down_proj.weight","row":3,"column":77,"value":0.0}])");
  EXPECT_EQ(json["proof"]["null"].size(), 2U);
  EXPECT_EQ(json["proof"]["level"], "joint");
  EXPECT_TRUE(json["proof"]["leave_one_out"].is_null());
  EXPECT_TRUE(json["proof"]["mean_replaced"].is_null());
  EXPECT_EQ(json["prompt"].dump(), R"({"token_ids":[1,17,4]})");
}

TEST(DetectionToJsonTest, ExpertsAreNumbered) {
  Detection detection = SomeDetection();
  detection.super_weights[0].expert = 3;
  detection.layers[0].experts = {{3, {9, 173, -7.61F}, {2, 5, 0.5F}}};
  const Json json = DetectionToJson(detection);
  EXPECT_EQ(json["super_weights"][0]["expert"], 3);
  EXPECT_EQ(json["layers"][0]["experts"].dump(),
            R"([{"expert":3,"down_proj_input":{"token":9,"channel":173,"value":-7.61},)"
            R"("down_proj_output":{"token":2,"channel":5,"value":0.5}}])");
}

TEST(DetectionToJsonTest, AFullProofHasTheOtherArms) {
  Detection detection = SomeDetection();
  Proof& proof = *detection.proof;
  proof.level = ProofLevel::kFull;
  proof.leave_one_out = {ProofArm{}};
  proof.mean_alone = {*proof.joint};
  proof.mean_joint = proof.joint;
  const Json json = DetectionToJson(detection)["proof"];
  EXPECT_EQ(json["level"], "full");
  EXPECT_EQ(json["leave_one_out"].size(), 1U);
  EXPECT_TRUE(json["leave_one_out"][0]["changed"].empty());
  EXPECT_EQ(json["mean_replaced"]["alone"][0], json["joint"]);
  EXPECT_EQ(json["mean_replaced"]["joint"], json["joint"]);
}

TEST(DetectionToJsonTest, WithoutAProofItIsNull) {
  Detection detection = SomeDetection();
  detection.proof.reset();
  EXPECT_TRUE(DetectionToJson(detection)["proof"].is_null());
  detection = SomeDetection();
  detection.proof->joint.reset();
  detection.proof->tokens += 1;
  EXPECT_TRUE(DetectionToJson(detection)["proof"]["joint"].is_null());
  EXPECT_TRUE(DetectionToJson(detection)["proof"]["window"].is_null()) << "of unequal length";
}

// Holds the required keys of a schema object against an instance, all the way down.
void ExpectKeys(const Json& root, Json schema, const Json& value, const std::string& where) {
  if (schema.contains("oneOf")) schema = schema["oneOf"][value.is_null() ? 0 : 1];
  if (schema.contains("$ref")) {
    const std::string name = schema["$ref"].get<std::string>().substr(sizeof("#/$defs/") - 1);
    ASSERT_TRUE(root["$defs"].contains(name)) << where;
    schema = root["$defs"][name];
  }
  if (schema.contains("items") && schema["type"].is_array() && value.is_null()) return;
  if (schema.contains("items")) {
    ASSERT_TRUE(value.is_array()) << where;
    for (const Json& item : value) ExpectKeys(root, schema["items"], item, where + "[]");
  }
  if (!schema.contains("properties")) return;
  EXPECT_EQ(schema["additionalProperties"], false) << where;
  std::set<std::string> required;
  for (const Json& key : schema["required"]) required.insert(key);
  std::set<std::string> present;
  for (const auto& item : value.items()) {
    present.insert(item.key());
    ASSERT_TRUE(schema["properties"].contains(item.key())) << where << "." << item.key();
    ExpectKeys(root, schema["properties"][item.key()], item.value(), where + "." + item.key());
  }
  EXPECT_EQ(present, required) << where;
}

class ManifestTest : public ::testing::Test {
 protected:
  ManifestTest() {
    PutTinyCheckpoint(storage_, "dir/in", {.shards = 2});
    const absl::Status status =
        WriteArtifact(storage_, "dir/in", "out", {.preserve = Preserve::kScale},
                      {{{"model.layers.1.mlp.down_proj.weight", 3, 77}, 0.5F}});
    EXPECT_TRUE(status.ok()) << status;
    text_ = ToText(storage_.Get("out/linchpin.json"));
    manifest_ = *ParseJson("linchpin.json", text_, Reason::kConfigInvalid);
  }

  MemoryStorage storage_;
  std::string text_;
  Json manifest_;
};

TEST_F(ManifestTest, HasExactlyTheKeysOfItsSchema) {
  const absl::StatusOr<Json> schema =
      ParseJson("linchpin.schema.json", ManifestSchema(), Reason::kConfigInvalid);
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_EQ((*schema)["$schema"], "https://json-schema.org/draft/2020-12/schema");
  ExpectKeys(*schema, *schema, manifest_, "manifest");
}

TEST_F(ManifestTest, SaysWhatWasAskedAndWhatWasDone) {
  EXPECT_EQ(
      manifest_["options"].dump(),
      R"({"format":"compressed-tensors","scheme":"w4a16","group_size":"auto",)"
      R"("asymmetric":false,"scale":"importance","preserve":"scale","ignore":[],"include":[]})");
  EXPECT_TRUE(manifest_["calibration"].is_null());
  EXPECT_EQ(manifest_["tensors"].size(), 20U);
  const Json& quantized = manifest_["tensors"][2];
  EXPECT_EQ(quantized["action"], "quantized");
  EXPECT_EQ(quantized["scheme"], "w4a16");
  EXPECT_EQ(quantized["group_size"], 32);
  EXPECT_EQ(quantized["scale"], "signed") << "asked for importance, but nothing was measured";
  EXPECT_THAT(manifest_["notes"].dump(), ::testing::HasSubstr("have signed scales"));
  EXPECT_EQ(quantized["outputs"].size(), 3U);
  EXPECT_EQ(quantized["outputs"][0], quantized["name"].get<std::string>() + "_packed");
  EXPECT_TRUE(quantized["kept_because"].is_null());
  EXPECT_EQ(manifest_["tensors"][0]["kept_because"], "embedding");
  EXPECT_TRUE(manifest_["tensors"][0]["scheme"].is_null());
  EXPECT_EQ(manifest_["tensors"][0]["outputs"], Json::array({manifest_["tensors"][0]["name"]}));
}

Importance ImportanceBut(const Checkpoint& checkpoint, std::string_view lacking) {
  Importance importance;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.info.shape.size() != 2 || tensor.info.name == lacking) continue;
    InputStatistics statistics{.tokens = 9};
    for (int64_t i = 0; i < tensor.info.shape[1]; ++i) {
      statistics.mean_squares.push_back(static_cast<float>(1 + MixBits(i) % 1000));
    }
    importance[tensor.info.name] = std::make_shared<InputStatistics>(statistics);
  }
  return importance;
}

std::string BytesOf(const Checkpoint& checkpoint, std::string_view name) {
  const StoredTensor& tensor = **checkpoint.Find(name);
  std::string bytes(StoredSize(tensor), '\0');
  EXPECT_TRUE(
      checkpoint
          .ReadStoredBytes(tensor, 0, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()})
          .ok());
  return bytes;
}

// The codes of a tensor, rounded by `rule`.
std::string CodesBy(ScaleRule rule, const Checkpoint& source, const Json& tensor, bool asymmetric,
                    const Importance& importance) {
  const std::string name = tensor["name"];
  const StoredTensor& stored = **source.Find(name);
  const Coding coding = CodingOf(*ParseScheme(tensor["scheme"].get<std::string>()), asymmetric);
  const int64_t rows = stored.info.shape[0];
  const int64_t columns = stored.info.shape[1];
  const std::string weights = BytesOf(source, name);
  std::string codes(static_cast<size_t>(rows * coding.RowBytes(columns)), '\0');
  std::vector<std::byte> scales(static_cast<size_t>(rows * columns * 2));
  std::vector<int8_t> zeros(scales.size());
  std::vector<float> weighed;
  if (rule == ScaleRule::kImportance) weighed = ErrorWeights(*FindImportance(importance, name));
  EncodeGroups({.coding = coding,
                .rows = rows,
                .columns = columns,
                .group_size = tensor["group_size"],
                .rule = rule,
                .importance = weighed,
                .weights = reinterpret_cast<const std::byte*>(weights.data()),
                .codes = reinterpret_cast<std::byte*>(codes.data()),
                .scales = scales.data(),
                .zeros = asymmetric ? zeros.data() : nullptr});
  return codes;
}

// What it says of a tensor's rule is how its codes were made, and no other rule makes them.
TEST(ManifestTruthTest, CodesAreThoseOfTheRuleThatItNames) {
  const std::string lacking = "model.layers.0.self_attn.q_proj.weight";
  const std::vector<QuantizeOptions> all = {{},
                                            {.asymmetric = true},
                                            {.scheme = Scheme::kW8A16},
                                            {.scheme = Scheme::kW8A8},
                                            {.scheme = Scheme::kFp8},
                                            {.scale = ScaleRule::kMse},
                                            {.asymmetric = true, .scale = ScaleRule::kMse},
                                            {.scheme = Scheme::kFp8, .scale = ScaleRule::kMinMax}};
  for (const QuantizeOptions& options : all) {
    MemoryStorage storage;
    PutTinyCheckpoint(storage, "in");
    const Checkpoint source = *Checkpoint::Open(storage, "in");
    const Importance importance = ImportanceBut(source, lacking);
    ASSERT_TRUE(WriteArtifact(storage, "in", "out", options, {}, {}, importance).ok());
    const Json manifest = Json::parse(ToText(storage.Get("out/linchpin.json")));
    const Checkpoint output = *Checkpoint::Open(storage, "out");
    std::map<std::string, int> rules;
    for (const Json& tensor : manifest["tensors"]) {
      if (tensor["action"] != "quantized") continue;
      const std::string name = tensor["name"];
      const std::string named = tensor["scale"];
      ++rules[named];
      for (const ScaleRule rule :
           {ScaleRule::kImportance, ScaleRule::kSigned, ScaleRule::kMinMax, ScaleRule::kMse}) {
        if (rule == ScaleRule::kImportance && name == lacking) continue;
        if (rule == ScaleRule::kSigned && options.asymmetric) continue;
        const bool same = BytesOf(output, tensor["outputs"][0].get<std::string>()) ==
                          CodesBy(rule, source, tensor, options.asymmetric, importance);
        EXPECT_EQ(same, NameOf(rule) == named) << name << " " << named << " " << NameOf(rule);
      }
    }
    if (options.scale != ScaleRule::kImportance) continue;
    EXPECT_EQ(rules["importance"], 13);
    EXPECT_EQ(rules[options.asymmetric ? "minmax" : "signed"], 1) << "nothing came to it";
  }
}

// Floats have no scales, and Q8_0 is rounded in one way only.
TEST(ManifestTruthTest, NoRuleIsNamedThatATypeDoesNotHave) {
  for (const auto& [scheme, rule] : {std::pair(Scheme::kF16, Json()),
                                     {Scheme::kBF16, Json()},
                                     {Scheme::kQ8_0, Json("minmax")},
                                     {Scheme::kQ4_0, Json("importance")},
                                     {Scheme::kPruned, Json()}}) {
    MemoryStorage storage;
    PutTinyCheckpoint(storage, "in");
    const Importance importance = ImportanceBut(*Checkpoint::Open(storage, "in"), "");
    const QuantizeOptions options{.format = Format::kDense, .scheme = scheme};
    ASSERT_TRUE(WriteArtifact(storage, "in", "out", options, {}, {}, importance).ok());
    const Json manifest = Json::parse(ToText(storage.Get("out/linchpin.json")));
    EXPECT_EQ(manifest["tensors"][2]["action"], "quantized");
    EXPECT_EQ(manifest["tensors"][2]["scale"], rule) << NameOf(scheme);
  }
}

TEST_F(ManifestTest, FilesHaveTheirDigests) {
  for (const Json& file : manifest_["output"]["files"]) {
    const std::string text = ToText(storage_.Get("out/" + file["name"].get<std::string>()));
    EXPECT_EQ(file["size"], text.size());
    EXPECT_EQ(file["sha256"], Sha256Hex(text));
  }
  EXPECT_EQ(manifest_["output"]["files"].size(), 6U) << "all but the manifest";
  EXPECT_EQ(manifest_["source"]["files"].size(), 6U);
}

TEST_F(ManifestTest, IsTextForPeopleAndEndsInANewline) {
  EXPECT_THAT(text_, ::testing::StartsWith("{\n  \"manifest_version\": 1,\n  \"tool\": {\n"));
  EXPECT_THAT(text_, ::testing::EndsWith("\n}\n"));
  EXPECT_EQ(SerializeManifest(manifest_), text_);
}

}  // namespace
}  // namespace linchpin
