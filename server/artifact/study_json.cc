#include "artifact/manifest.h"

namespace linchpin {
namespace {

Json Numbers(const std::vector<float>& values) {
  Json list = Json::array();
  for (const float value : values) list.push_back(ShortestNumber(value));
  return list;
}

Json ToJson(const StudyLayer& layer) {
  return {{"layer", layer.layer},
          {"down_proj_input", ShortestNumber(layer.down_proj_input)},
          {"down_proj_output", ShortestNumber(layer.down_proj_output)},
          {"residual", ShortestNumber(layer.residual)},
          {"residual_without", ShortestNumber(layer.residual_without)}};
}

Json ToJson(const StudyActivation& activation) {
  return {{"token", activation.token},
          {"channel", activation.channel},
          {"residual", Numbers(activation.with)},
          {"residual_without", Numbers(activation.without)}};
}

Json ToJson(const StudyQuality& quality) {
  return {{"loss", quality.loss},
          {"perplexity", quality.perplexity},
          {"perplexity_ratio", quality.perplexity_ratio},
          {"kl", quality.kl}};
}

Json ToJson(const StudyScale& scale) {
  Json json = {{"scale", scale.scale}};
  json.update(ToJson(scale.quality));
  return json;
}

Json ToJson(const StudyToken& token) {
  return {{"id", token.id},
          {"count", token.count},
          {"probability", token.probability},
          {"probability_without", token.probability_without}};
}

Json ToJson(const StudyRow& row) {
  Json json = {{"name", row.name}, {"pruned", row.pruned}};
  json.update(ToJson(row.quality));
  return json;
}

template <typename T>
Json ListOf(const std::vector<T>& items) {
  Json list = Json::array();
  for (const T& item : items) list.push_back(ToJson(item));
  return list;
}

}  // namespace

Json StudyToJson(const Study& study) {
  return {{"windows", study.windows},       {"tokens", study.tokens},
          {"layers", ListOf(study.layers)}, {"super_activations", ListOf(study.activations)},
          {"scales", ListOf(study.scales)}, {"frequent_tokens", ListOf(study.frequent)},
          {"rows", ListOf(study.rows)}};
}

}  // namespace linchpin
