#include <cmath>
#include <cstdlib>

#include "artifact/manifest.h"
#include "detect/notes.h"
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
          {"weight_only_rank", nullptr},
          {"agreement", nullptr},
          {"published", weight.published},
          {"class", std::string(NameOf(weight.weight_class))}};
}

Json ToJson(const SuperActivation& activation) {
  return {{"token", activation.token},
          {"channel", activation.channel},
          {"peak", ShortestNumber(activation.peak)},
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
          {"experts", layer.experts.empty() ? Json(nullptr) : ListOf(layer.experts)}};
}

Json ToJson(const PinnedWeight& weight) {
  return {{"tensor", weight.position.tensor},
          {"row", weight.position.row},
          {"column", weight.position.column},
          {"value", ShortestNumber(weight.value)}};
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

Json ToJson(const DetectOptions& options) {
  return {{"peak_over_median", ShortestNumber(options.peak_over_median)},
          {"made_peak_over_median", ShortestNumber(options.made_peak_over_median)},
          {"made_over_median", ShortestNumber(options.made_over_median)},
          {"peak_over_largest", ShortestNumber(options.peak_over_largest)},
          {"keep_fraction", ShortestNumber(options.keep_fraction)},
          {"keep_layers", ShortestNumber(options.keep_layers)},
          {"min_later", ShortestNumber(options.min_later)},
          {"min_jump", ShortestNumber(options.min_jump)},
          {"min_change", ShortestNumber(options.min_change)},
          {"max_contributors", options.max_contributors},
          {"explain_low", ShortestNumber(options.explain_low)},
          {"explain_high", ShortestNumber(options.explain_high)},
          {"top_weights", options.top_weights},
          {"top_weight_fraction", ShortestNumber(options.top_weight_fraction)},
          {"top_inputs", options.top_inputs},
          {"min_share", ShortestNumber(options.min_share)},
          {"output_over_median", ShortestNumber(options.output_over_median)},
          {"gain_over_median", ShortestNumber(options.gain_over_median)},
          {"max_rounds", options.max_rounds},
          {"null_draws", options.null_draws},
          {"critical_ratio", options.critical_ratio},
          {"critical_interval", options.critical_interval},
          {"joint_factor", options.joint_factor}};
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
  json["layers"] = ListOf(detection.layers);
  json["proof"] = detection.proof ? ToJson(*detection.proof) : Json(nullptr);
  json["study"] = detection.study ? StudyToJson(*detection.study) : Json(nullptr);
  json["prompt"] = {{"token_ids", detection.prompt}};
  json["thresholds"] = ToJson(detection.options);
  json["published"] = ToJson(detection.published);
  json["notes"] = NotesOn(detection);
  return json;
}

}  // namespace linchpin
