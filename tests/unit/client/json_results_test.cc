#include "client/json_results.h"

#include <gtest/gtest.h>

#include <limits>

#include "nlohmann/json.hpp"

namespace linchpin {
namespace {

using nlohmann::json;

// Parses what must be exactly one document and end in a line break.
json One(const std::string& text) {
  EXPECT_EQ(text.back(), '\n');
  const json document = json::parse(text, nullptr, false);
  EXPECT_FALSE(document.is_discarded()) << text;
  return document;
}

TEST(DetectionJson, IsTheServersDocumentAsItStands) {
  v1::DetectionResult result;
  result.set_detection_json("{\"value\": 5.8757,  \"expert\": null}");
  EXPECT_EQ(DetectionJson(result), result.detection_json() + "\n");
  result.set_detection_json("{}\n");
  EXPECT_EQ(DetectionJson(result), "{}\n");
}

TEST(CompressionJson, HoldsTheManifestAsItWasWritten) {
  v1::CompressionResult result;
  result.set_manifest_json("{\n  \"z\": 1.10,\n  \"a\": 2\n}\n");
  result.set_bytes_in(9'007'199'254'740'993);  // not a double
  result.set_bytes_out(7);
  result.add_notes("a \"note\"");
  const std::string text = CompressionJson(result, "/out");
  const json document = One(text);
  EXPECT_NE(text.find("{\n  \"z\": 1.10,\n  \"a\": 2\n}"), std::string::npos);
  EXPECT_EQ(document["manifest"]["a"], 2);
  EXPECT_EQ(document["bytes_in"], 9'007'199'254'740'993);
  EXPECT_EQ(document["bytes_out"], 7);
  EXPECT_EQ(document["notes"], json::array({"a \"note\""}));
  EXPECT_EQ(document["output"], "/out");
}

TEST(VerificationJson, TellsWhetherWeightsAreExact) {
  v1::VerificationResult result;
  result.set_files(3);
  result.add_mismatches("x: y");
  v1::KeptWeight* kept = result.add_kept();
  kept->set_tensor("t");
  kept->set_source_value(5.8757F);
  kept->set_stored_value(5.8757F);
  kept = result.add_kept();
  kept->set_source_value(std::numeric_limits<float>::infinity());
  const json document = One(VerificationJson(result));
  EXPECT_EQ(document["matches"], false);
  EXPECT_EQ(document["mismatches"], json::array({"x: y"}));
  EXPECT_EQ(document["kept"][0]["source_value"].dump(), "5.8757");  // no digits of its double
  EXPECT_EQ(document["kept"][0]["exact"], true);
  EXPECT_TRUE(document["kept"][1]["source_value"].is_null());
  EXPECT_EQ(document["kept"][1]["exact"], false);
}

TEST(EvaluationJson, HasTheKeysOfTheContract) {
  v1::EvaluationResult result;
  result.set_loss(3.038);
  result.set_perplexity(20.86);
  result.set_tokens(5538);
  EXPECT_EQ(One(EvaluationJson(result)),
            json({{"loss", 3.038}, {"perplexity", 20.86}, {"tokens", 5538}}));
  result.mutable_against()->set_loss(3.5);
  result.mutable_against()->set_perplexity(33.1);
  result.mutable_against()->set_kl(0.25);
  EXPECT_EQ(One(EvaluationJson(result))["against"],
            json({{"loss", 3.5}, {"perplexity", 33.1}, {"kl", 0.25}}));
}

TEST(EvaluationJson, ListsAnalysesThatWereAskedFor) {
  v1::EvaluationResult result;
  v1::RoundedModel* arm = result.add_arms();
  arm->set_name("rtn");
  arm->set_block(-1);
  arm->set_kl(0.5);
  result.add_activations()->set_name("w8a8");
  v1::AwqScale* scale = result.add_awq();
  scale->set_tensor("t");
  scale->set_scale(12);
  const json document = One(EvaluationJson(result));
  EXPECT_EQ(
      document["arms"][0],
      json({{"name", "rtn"}, {"block", nullptr}, {"loss", 0.0}, {"perplexity", 0.0}, {"kl", 0.5}}));
  EXPECT_FALSE(document["activations"][0].contains("block"));
  EXPECT_EQ(document["awq"][0]["scale"], 12.0);
  EXPECT_FALSE(document.contains("notes"));
}

TEST(PlanJson, GivesNumbersAsNumbers) {
  v1::PlanCompressionResponse plan;
  plan.set_group_size(128);
  plan.set_bytes_in(10);
  v1::TensorPlan* tensor = plan.add_tensors();
  tensor->set_name("a");
  tensor->set_quantized(true);
  tensor->set_group_size(128);
  plan.add_tensors()->set_kept_because("a norm");
  const json document = One(PlanJson(plan));
  EXPECT_EQ(document["group_size"], 128);
  EXPECT_EQ(document["bytes_in"], 10);
  EXPECT_EQ(document["tensors"][0]["group_size"], 128);
  EXPECT_TRUE(document["tensors"][0]["kept_because"].is_null());
  EXPECT_TRUE(document["tensors"][1]["group_size"].is_null());
  EXPECT_EQ(document["tensors"][1]["kept_because"], "a norm");
}

TEST(CapabilitiesJson, ListsAreListsEvenIfEmptyOrOfTwo) {
  v1::GetCapabilitiesResponse capabilities;
  capabilities.add_families("llama");
  capabilities.add_scale_rules("signed");
  capabilities.add_scale_rules("minmax");
  capabilities.set_max_artifact_bytes(1ULL << 40);
  const json document = One(CapabilitiesJson(capabilities));
  EXPECT_EQ(document["families"], json::array({"llama"}));
  EXPECT_EQ(document["scale_rules"], json::array({"signed", "minmax"}));
  EXPECT_EQ(document["formats"], json::array());
  EXPECT_EQ(document["max_artifact_bytes"], 1ULL << 40);
}

TEST(DemoModelJson, SurvivesANameThatIsNotUtf8) {
  v1::CreateDemoModelResponse response;
  response.set_bytes(5);
  EXPECT_EQ(One(DemoModelJson(response, "/tmp/\xff"))["bytes"], 5);
}

}  // namespace
}  // namespace linchpin
