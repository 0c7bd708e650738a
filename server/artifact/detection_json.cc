#include <cmath>
#include <cstdlib>

#include "artifact/manifest.h"
#include "detect/notes.h"
#include "detect/thresholds.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

template <typename T>
Json ListOf(const std::vector<T>& items);

Json ToJson(const Peak& peak) {
  return {{"token", peak.token}, {"channel", peak.channel}, {"value", ShortestNumber(peak.value)}};
}

// An expert's number; null for a layer's one MLP.
Json ExpertOf(int expert) { return expert < 0 ? Json(nullptr) : Json(expert); }

Json RankOf(int64_t rank) { return rank == 0 ? Json(nullptr) : Json(rank); }

Json ToJson(const SuperWeight& weight) {
  return {{"tensor", weight.position.tensor},
          {"layer", weight.layer},
          {"expert", ExpertOf(weight.expert)},
          {"row", weight.position.row},
          {"column", weight.position.column},
          {"value", ShortestNumber(weight.value)},
          {"token", weight.token},
          {"input", ShortestNumber(weight.input)},
          {"output", ShortestNumber(weight.output)},
          {"share", ShortestNumber(weight.share)},
          {"norm_gain", ShortestNumber(weight.norm_gain)},
          {"persistence", ShortestNumber(weight.persistence)},
          {"rank", weight.rank},
          {"round", weight.round},
          {"weight_only_rank", RankOf(weight.weight_only_rank)},
          {"weight_only_column_rank", RankOf(weight.weight_only_column_rank)},
          {"agreement", weight.agreement ? Json(*weight.agreement) : Json(nullptr)},
          {"published", weight.published},
          {"class", std::string(NameOf(weight.weight_class))}};
}

Json ToJson(const SuperActivation& activation) {
  return {{"token", activation.token},
          {"channel", activation.channel},
          {"peak", ShortestNumber(activation.peak)},
          {"over_median", ShortestNumber(activation.over_median)},
          {"onset_layer", activation.onset_layer},
          {"persistence", ShortestNumber(activation.persistence)},
          {"norm_gain", ShortestNumber(activation.norm_gain)},
          {"carrier", std::string(NameOf(activation.carrier))}};
}

Json ToJson(const DownProjRecord& record) {
  return {{"expert", ExpertOf(record.expert)},
          {"down_proj_input", ToJson(record.input)},
          {"down_proj_output", ToJson(record.output)}};
}

Json ToJson(const LayerRecord& layer) {
  Json residual = ToJson(layer.residual);
  residual["median_abs"] = ShortestNumber(layer.residual_median_abs);
  return {{"layer", layer.layer},
          {"down_proj_input", ToJson(layer.down_proj_input)},
          {"down_proj_output", ToJson(layer.down_proj_output)},
          {"residual", std::move(residual)},
          {"experts", layer.experts.empty() ? Json(nullptr) : ListOf(layer.experts)},
          {"unreached_experts", layer.experts.empty() ? Json(nullptr) : Json(layer.unreached)}};
}

Json ToJson(const WeightPosition& position) {
  return {{"tensor", position.tensor}, {"row", position.row}, {"column", position.column}};
}

Json ToJson(const PinnedWeight& weight) {
  Json json = ToJson(weight.position);
  json["value"] = ShortestNumber(weight.value);
  return json;
}

Json ToJson(const ProofArm& arm) {
  return {{"changed", ListOf(arm.changed)},
          {"loss", arm.loss},
          {"perplexity_ratio", arm.perplexity_ratio},
          {"interval", Json::array({arm.interval_low, arm.interval_high})},
          {"kl", arm.kl},
          {"kl_interval", Json::array({arm.kl_low, arm.kl_high})}};
}

Json ToJson(const std::optional<ProofArm>& arm) { return arm ? ToJson(*arm) : Json(nullptr); }

// Tokens per window, BOS included; null where the windows differ.
Json WindowOf(const Proof& proof) {
  if (proof.windows <= 0 || proof.tokens % proof.windows != 0) return nullptr;
  return proof.tokens / proof.windows + 1;
}

Json ToJson(const Proof& proof) {
  Json json = {
      {"level", std::string(NameOf(proof.level))},
      {"judged_by", proof.origin == TokenOrigin::kBuiltInIds ? "kl" : "perplexity_ratio"},
      {"tokens_from", std::string(NameOf(proof.origin))},
      {"no_text_because",
       proof.no_text_because.empty() ? Json(nullptr) : Json(proof.no_text_because)},
      {"windows", proof.windows},
      {"window", WindowOf(proof)},
      {"tokens", proof.tokens},
      {"baseline", {{"loss", proof.baseline_loss}, {"perplexity", proof.baseline_perplexity}}}};
  json["alone"] = ListOf(proof.alone);
  json["joint"] = ToJson(proof.joint);
  const bool full = proof.level == ProofLevel::kFull;
  json["leave_one_out"] = full ? ListOf(proof.leave_one_out) : Json(nullptr);
  json["mean_replaced"] = nullptr;
  if (full) {
    json["mean_replaced"] = {{"alone", ListOf(proof.mean_alone)},
                             {"joint", ToJson(proof.mean_joint)}};
  }
  json["null"] = ListOf(proof.null);
  return json;
}

Json ToJson(const PublishedWeight& weight) {
  return {{"layer", weight.layer},
          {"row", weight.row},
          {"column", weight.column ? Json(*weight.column) : Json(nullptr)}};
}

Json ToJson(const Published& published) {
  return {{"model", published.model ? Json(*published.model) : Json(nullptr)},
          {"missing", ListOf(published.missing)}};
}

// Floats with the digits that tell them apart.
Json ToJson(const DetectOptions& options) {
  Json json = Json::object();
  for (const Threshold& threshold : Thresholds()) {
    const double value = threshold.get(options);
    Json& number = json[std::string(threshold.name)];
    if (threshold.whole) {
      number = static_cast<int64_t>(value);
    } else {
      number = ShortestNumber(static_cast<float>(value));
    }
  }
  return json;
}

Json ToJson(const SuperExpert& expert) {
  return {{"layer", expert.layer},
          {"expert", expert.expert},
          {"output", ToJson(expert.output)},
          {"over_largest", ShortestNumber(expert.over_largest)}};
}

Json ToJson(const Suspect& suspect) {
  Json json = ToJson(suspect.position);
  json["layer"] = suspect.layer;
  json["expert"] = ExpertOf(suspect.expert);
  json["value"] = ShortestNumber(suspect.value);
  json["score"] = suspect.score;
  json["over_median"] = suspect.over_median;
  json["share"] = suspect.share;
  return json;
}

Json ToJson(const PromptRecord& prompt) {
  return {{"name", prompt.name},
          {"token_ids", prompt.token_ids},
          {"super_weights", ListOf(prompt.found)}};
}

Json ToJson(const Stability& stability) {
  return {{"agreement", stability.agreement}, {"prompts", ListOf(stability.prompts)}};
}

// After all that it calls, or it would not find them.
template <typename T>
Json ListOf(const std::vector<T>& items) {
  Json list = Json::array();
  for (const T& item : items) list.push_back(ToJson(item));
  return list;
}

}  // namespace

Json ShortestNumber(float value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(fmt::format("{}", value).c_str(), nullptr);
}

Json DetectionToJson(const Detection& detection) {
  Json json = Json::object();
  json["verdict"] = std::string(NameOf(detection.verdict));
  json["super_weights"] = ListOf(detection.super_weights);
  json["super_activations"] = ListOf(detection.super_activations);
  json["super_experts"] = ListOf(detection.super_experts);
  json["layers"] = ListOf(detection.layers);
  json["proof"] = detection.proof ? ToJson(*detection.proof) : Json(nullptr);
  json["study"] = detection.study ? StudyToJson(*detection.study) : Json(nullptr);
  json["prompt"] = {{"token_ids", detection.prompt}};
  json["thresholds"] = ToJson(detection.options);
  json["published"] = ToJson(detection.published);
  json["stability"] = detection.stability ? ToJson(*detection.stability) : Json(nullptr);
  json["weight_only"] = nullptr;
  if (detection.suspects) json["weight_only"] = {{"suspects", ListOf(*detection.suspects)}};
  json["notes"] = NotesOn(detection);
  return json;
}

}  // namespace linchpin
