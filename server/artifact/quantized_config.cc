#include <algorithm>
#include <cctype>

#include "artifact/quantized_config.h"
#include "base/status.h"

namespace linchpin {
namespace {

constexpr std::string_view kKey = "quantization_config";

std::string TypeOf(const SchemeTraits& scheme) {
  return scheme.codes == CodeKind::kFloat8 ? "float" : "int";
}

// Exactly these keys: consumers refuse others.
Json WeightsOf(const Plan& plan) {
  const SchemeTraits& scheme = TraitsOf(plan.options.scheme);
  Json weights = {
      {"num_bits", scheme.bits}, {"type", TypeOf(scheme)}, {"symmetric", !plan.options.asymmetric}};
  if (plan.group_size > 0) {
    weights["strategy"] = "group";
    weights["group_size"] = plan.group_size;
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

Json GroupOf(const Plan& plan) {
  Json group = Json::object();
  group["targets"] = Json::array({"Linear"});
  group["input_activations"] = ActivationsOf(TraitsOf(plan.options.scheme));
  group["output_activations"] = nullptr;
  group["weights"] = WeightsOf(plan);
  return group;
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
  quantization["config_groups"]["group_0"] = GroupOf(plan);
  config[std::string(kKey)] = std::move(quantization);
  return config;
}

}  // namespace linchpin
