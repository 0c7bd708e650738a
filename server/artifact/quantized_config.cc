#include <algorithm>
#include <cctype>
#include <utility>

#include "artifact/quantized_config.h"
#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr std::string_view kKey = "quantization_config";

std::string TypeOf(const SchemeTraits& scheme) {
  return scheme.codes == CodeKind::kFloat8 ? "float" : "int";
}

// Exactly these keys: consumers refuse others.  Of one scale per channel where
// there are no groups.
Json WeightsOf(const SchemeTraits& scheme, bool asymmetric, int64_t group_size) {
  Json weights = {{"num_bits", scheme.bits}, {"type", TypeOf(scheme)}, {"symmetric", !asymmetric}};
  if (group_size > 0) {
    weights["strategy"] = "group";
    weights["group_size"] = group_size;
  } else {
    weights["strategy"] = "channel";
  }
  weights["dynamic"] = false;
  return weights;
}

// Each token's own scale, when it comes.
Json ActivationsOf(const SchemeTraits& scheme) {
  if (!scheme.rounds_activations) return nullptr;
  return {{"num_bits", scheme.bits},
          {"type", TypeOf(scheme)},
          {"symmetric", true},
          {"strategy", "token"},
          {"dynamic", true}};
}

Json GroupOf(Json targets, Json activations, Json weights) {
  Json group = Json::object();
  group["targets"] = std::move(targets);
  group["input_activations"] = std::move(activations);
  group["output_activations"] = nullptr;
  group["weights"] = std::move(weights);
  return group;
}

// The linear layers of the blocks.
Json BlocksOf(const Plan& plan) {
  const SchemeTraits& scheme = TraitsOf(plan.options.scheme);
  return GroupOf({"Linear"}, ActivationsOf(scheme),
                 WeightsOf(scheme, plan.options.asymmetric, plan.group_size));
}

// By the last part of its name, as consumers put others before it; transformers
// may call an output head lm_head where a family's checkpoints do not.
Json OuterOf(const Plan& plan, const OuterLayer& layer) {
  const SchemeTraits& scheme = TraitsOf(TraitsOf(plan.options.scheme).outer);
  const auto pattern = [](std::string_view name) { return fmt::format("re:.*{}$", name); };
  const std::string last = layer.module.substr(layer.module.rfind('.') + 1);
  Json targets = Json::array({pattern(last)});
  if (!layer.looked_up && last != "lm_head") targets.push_back(pattern("lm_head"));
  return GroupOf(std::move(targets), layer.looked_up ? Json() : ActivationsOf(scheme),
                 WeightsOf(scheme, /*asymmetric=*/false, /*group_size=*/0));
}

// "qwen2_moe" -> "Qwen2MoeForCausalLM", as transformers names its classes.
std::string ClassOf(std::string_view model_type) {
  std::string name;
  while (!model_type.empty()) {
    const size_t end = std::min(model_type.find('_'), model_type.size());
    std::string part(model_type.substr(0, end));
    model_type.remove_prefix(std::min(end + 1, model_type.size()));
    if (part.empty() || part == "text") continue;
    part[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(part[0])));
    name += part;
  }
  return name + "ForCausalLM";
}

std::string_view TorchName(DType dtype) {
  if (dtype == DType::kF32) return "float32";
  return dtype == DType::kF16 ? "float16" : "bfloat16";
}

}  // namespace

absl::StatusOr<Json> PlainConfig(const Checkpoint& checkpoint, const Plan& plan) {
  ASSIGN_OR_RETURN(Json config,
                   ParseJson("config.json", checkpoint.config_text(), Reason::kConfigInvalid));
  if (!config.is_object()) {
    return Error(Reason::kConfigInvalid, "config.json", "not a JSON object", kMalformedRemedy);
  }
  const auto& tensors = checkpoint.tensors();
  const bool scaled = std::any_of(tensors.begin(), tensors.end(), [](const StoredTensor& tensor) {
    return tensor.scales.has_value();
  });
  if (scaled) config.erase(std::string(kKey));
  if (!scaled && !checkpoint.is_gguf()) return config;
  config.erase("dtype");
  config["torch_dtype"] = std::string(TorchName(plan.dtype));
  if (!config.contains("architectures")) {
    config["architectures"] = {ClassOf(config.value("model_type", ""))};
  }
  return config;
}

absl::StatusOr<Json> QuantizedConfig(std::string_view config_text, const Plan& plan) {
  ASSIGN_OR_RETURN(Json config, ParseJson("config.json", config_text, Reason::kConfigInvalid));
  if (!config.is_object()) {
    return Error(Reason::kConfigInvalid, "config.json", "not a JSON object", kMalformedRemedy);
  }
  if (config.contains(kKey)) {
    return Error(Reason::kFeatureUnsupported, "config.json",
                 "it has a quantization_config, the checkpoint is compressed already",
                 "give the uncompressed checkpoint");
  }
  Json quantization = Json::object();
  quantization["quant_method"] = "compressed-tensors";
  quantization["format"] = std::string(TraitsOf(plan.options.scheme).compressed_format);
  quantization["quantization_status"] = "compressed";
  quantization["ignore"] = plan.ignored_modules;
  quantization["config_groups"] = Json::object();
  Json& groups = quantization["config_groups"];
  groups["group_0"] = BlocksOf(plan);
  for (const OuterLayer& layer : plan.outer) {
    groups[fmt::format("group_{}", groups.size())] = OuterOf(plan, layer);
  }
  config[std::string(kKey)] = std::move(quantization);
  return config;
}

}  // namespace linchpin
