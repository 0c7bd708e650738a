#include "detect/published.h"

#include <algorithm>

#include "format/json.h"

namespace linchpin {
namespace {

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// "huggyllama/llama-7b" -> "llama-7b"; the directory's name for a weights file in it.
std::string LastComponent(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  const std::string_view last = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (slash != std::string_view::npos && slash > 0 &&
      (last.ends_with(".safetensors") || last.ends_with(".gguf"))) {
    return LastComponent(path.substr(0, slash));
  }
  return Lower(last);
}

// config.json's `_name_or_path`; empty where it has none.
std::string NameInConfig(std::string_view config_text) {
  const auto json = ParseJson("config.json", config_text, Reason::kConfigInvalid);
  if (!json.ok() || !json->is_object()) return "";
  const auto found = json->find("_name_or_path");
  return found != json->end() && found->is_string() ? found->get<std::string>() : "";
}

bool IsAt(const PublishedWeight& published, const SuperWeight& weight) {
  return weight.layer == published.layer && weight.position.row == published.row &&
         (!published.column || weight.position.column == *published.column);
}

}  // namespace

absl::Span<const PublishedModel> PublishedModels() {
  static const auto& models = *new std::vector<PublishedModel>{
      {"huggyllama/llama-7b", 32, 4096, 11008, {{2, 3968, 7003}}},
      {"huggyllama/llama-13b", 40, 5120, 13824, {{2, 2231, 2278}, {2, 2231, 6939}}},
      {"huggyllama/llama-30b",
       60,
       6656,
       17920,
       {{3, 5633, 12817}, {3, 5633, 17439}, {10, 5633, 14386}}},
      {"meta-llama/Llama-2-7b-hf", 32, 4096, 11008, {{1, 2533, 7890}, {1, 1415, 7890}}},
      {"meta-llama/Llama-2-13b-hf", 40, 5120, 13824, {{3, 4743, 7678}}},
      {"mistralai/Mistral-7B-v0.1", 32, 4096, 14336, {{1, 2070, 7310}}},
      {"allenai/OLMo-1B-0724-hf", 16, 2048, 8192, {{1, 1764, 1710}, {2, 1764, 8041}}},
      {"allenai/OLMo-7B-0724-hf",
       32,
       4096,
       11008,
       {{1, 269, 7467}, {2, 269, 8275}, {7, 269, 453}, {24, 269, 2300}}},
      {"microsoft/Phi-3-mini-4k-instruct",
       32,
       3072,
       8192,
       {{2, 525, 808},
        {2, 1693, 808},
        {2, 1113, 808},
        {4, 525, 2723},
        {4, 1113, 2723},
        {4, 1693, 2723}}},
      {"meta-llama/Meta-Llama-3-8B",
       32,
       4096,
       14336,
       {{1, 788, 2427}, {1, 1384, 2427}, {1, 4062, 2427}}},
      {"meta-llama/Llama-3.1-8B",
       32,
       4096,
       14336,
       {{1, 788, 2427}, {1, 1384, 2427}, {1, 4062, 2427}}},
      {"meta-llama/Llama-3.2-1B",
       16,
       2048,
       8192,
       {{1, 400, 1417}, {1, 698, 1417}, {1, 2029, 1417}, {1, 1159, 1417}}},
      {"HuggingFaceTB/SmolLM2-1.7B", 24, 2048, 8192, {{1, 749, 4987}}},
      {"HuggingFaceTB/SmolLM2-135M-Instruct", 30, 576, 1536, {{11, 507, 1229}, {11, 507, 1487}}},
      {"HuggingFaceTB/SmolLM2-360M", 32, 960, 2560, {{3, 87, std::nullopt}}},
  };
  return models;
}

const PublishedModel* IdentifyModel(const ModelConfig& config, std::string_view config_text,
                                    std::string_view path) {
  const std::string by_config = LastComponent(NameInConfig(config_text));
  const std::string by_path = LastComponent(path);
  for (const PublishedModel& model : PublishedModels()) {
    const std::string name = LastComponent(model.name);
    if (name != by_config && name != by_path) continue;
    if (model.layers == config.layers && model.hidden == config.hidden &&
        model.intermediate == config.intermediate) {
      return &model;
    }
  }
  return nullptr;
}

void ComparePublished(const PublishedModel* model, Detection& detection) {
  detection.published = {};
  if (model == nullptr) return;
  detection.published.model = std::string(model->name);
  for (const PublishedWeight& published : model->weights) {
    bool found = false;
    for (SuperWeight& weight : detection.super_weights) {
      if (!IsAt(published, weight)) continue;
      weight.published = true;
      found = true;
    }
    if (!found) detection.published.missing.push_back(published);
  }
}

}  // namespace linchpin
