#include "client/json_results.h"

#include <charconv>
#include <cmath>

#include "client/enum_names.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace linchpin {
namespace {

using Json = nlohmann::ordered_json;

std::string Document(const Json& json) {
  // Replaces what is not UTF-8 rather than throw.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Terminated(std::string text) {
  if (text.empty() || text.back() != '\n') text += '\n';
  return text;
}

template <typename Strings>
Json List(const Strings& strings) {
  return Json(std::vector<std::string>(strings.begin(), strings.end()));
}

// A float32 with as few digits as tell it apart, not those of its double.
Json Number(float value) {
  if (!std::isfinite(value)) return nullptr;
  const std::string text = fmt::format("{}", value);
  double shortest = 0;
  std::from_chars(text.data(), text.data() + text.size(), shortest);
  return shortest;
}

Json KeptList(const google::protobuf::RepeatedPtrField<v1::KeptWeight>& kept) {
  Json list = Json::array();
  for (const v1::KeptWeight& weight : kept) {
    list.push_back({{"tensor", weight.tensor()},
                    {"row", weight.row()},
                    {"column", weight.column()},
                    {"source_value", Number(weight.source_value())},
                    {"stored_value", Number(weight.stored_value())},
                    {"how", NameOf(weight.how())},
                    {"exact", IsExact(weight)}});
  }
  return list;
}

// `block` null for a whole tensor.
Json RoundedList(const google::protobuf::RepeatedPtrField<v1::RoundedModel>& models) {
  Json list = Json::array();
  for (const v1::RoundedModel& model : models) {
    Json row = {{"name", model.name()}};
    if (model.block() != 0) row["block"] = model.block() < 0 ? Json(nullptr) : Json(model.block());
    row["loss"] = model.loss();
    row["perplexity"] = model.perplexity();
    row["kl"] = model.kl();
    list.push_back(std::move(row));
  }
  return list;
}

Json AwqList(const google::protobuf::RepeatedPtrField<v1::AwqScale>& scales) {
  Json list = Json::array();
  for (const v1::AwqScale& scale : scales) {
    list.push_back({{"tensor", scale.tensor()},
                    {"row", scale.row()},
                    {"column", scale.column()},
                    {"exponent", scale.exponent()},
                    {"scale", scale.scale()},
                    {"median_scale", scale.median_scale()},
                    {"largest_scale", scale.largest_scale()},
                    {"error_ratio", scale.error_ratio()}});
  }
  return list;
}

Json TensorJson(const v1::TensorPlan& tensor) {
  const bool scaled = tensor.scale() != v1::SCALE_RULE_UNSPECIFIED;
  return {{"name", tensor.name()},
          {"quantized", tensor.quantized()},
          {"kept_because", tensor.quantized() ? Json(nullptr) : Json(tensor.kept_because())},
          {"scheme", tensor.quantized() ? Json(NameOf(tensor.scheme())) : Json(nullptr)},
          {"group_size", tensor.group_size() > 0 ? Json(tensor.group_size()) : Json(nullptr)},
          {"asymmetric", tensor.asymmetric()},
          {"scale", scaled ? Json(NameOf(tensor.scale())) : Json(nullptr)},
          {"bytes_in", tensor.bytes_in()},
          {"bytes_out", tensor.bytes_out()}};
}

}  // namespace

std::string CapabilitiesJson(const v1::GetCapabilitiesResponse& c) {
  return Document({{"version", c.version()},
                   {"libtorch_version", c.libtorch_version()},
                   {"families", List(c.families())},
                   {"schemes", List(c.schemes())},
                   {"scale_rules", List(c.scale_rules())},
                   {"preserve_modes", List(c.preserve_modes())},
                   {"formats", List(c.formats())},
                   {"uri_schemes", List(c.uri_schemes())},
                   {"max_message_bytes", c.max_message_bytes()},
                   {"max_artifact_bytes", c.max_artifact_bytes()},
                   {"chunk_bytes", c.chunk_bytes()}});
}

std::string PlanJson(const v1::PlanCompressionResponse& plan) {
  Json tensors = Json::array();
  for (const v1::TensorPlan& tensor : plan.tensors()) tensors.push_back(TensorJson(tensor));
  return Document({{"group_size", plan.group_size()},
                   {"bytes_in", plan.bytes_in()},
                   {"bytes_out", plan.bytes_out()},
                   {"memory_bytes", plan.memory_bytes()},
                   {"tensors", std::move(tensors)}});
}

std::string DetectionJson(const v1::DetectionResult& result) {
  return Terminated(result.detection_json());
}

std::string CompressionJson(const v1::CompressionResult& result, const std::string& output) {
  const Json rest = {{"output", output},
                     {"bytes_in", result.bytes_in()},
                     {"bytes_out", result.bytes_out()},
                     {"kept", KeptList(result.kept())},
                     {"notes", List(result.notes())},
                     {"manifest_sha256", result.manifest_sha256()}};
  std::string text = Document(rest);
  text.resize(text.rfind('}'));
  return text + ",\"manifest\": " + result.manifest_json() + "}\n";
}

std::string EvaluationJson(const v1::EvaluationResult& result) {
  Json json = {
      {"loss", result.loss()}, {"perplexity", result.perplexity()}, {"tokens", result.tokens()}};
  if (result.has_against()) {
    json["against"] = {{"loss", result.against().loss()},
                       {"perplexity", result.against().perplexity()},
                       {"kl", result.against().kl()}};
  }
  const auto add = [&json](const char* name, Json list) {
    if (!list.empty()) json[name] = std::move(list);
  };
  add("arms", RoundedList(result.arms()));
  add("activations", RoundedList(result.activations()));
  add("awq", AwqList(result.awq()));
  add("notes", List(result.notes()));
  return Document(json);
}

std::string VerificationJson(const v1::VerificationResult& result) {
  return Document({{"matches", result.matches()},
                   {"mismatches", List(result.mismatches())},
                   {"files", result.files()},
                   {"kept", KeptList(result.kept())}});
}

std::string ShardJson(const v1::ShardResult& result, int index) {
  return Document({{"shard", index},
                   {"skipped", result.skipped()},
                   {"bytes_in", result.bytes_in()},
                   {"bytes_out", result.bytes_out()},
                   {"sha256", result.sha256()},
                   {"job_key", result.job_key()}});
}

std::string ShardCountsJson(int finished, int skipped) {
  return Document({{"done", finished}, {"skipped", skipped}});
}

std::string DemoModelJson(const v1::CreateDemoModelResponse& response, const std::string& output) {
  return Document({{"directory", output}, {"bytes", response.bytes()}});
}

}  // namespace linchpin
