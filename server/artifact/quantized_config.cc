#include "artifact/compressed_tensors.h"
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

}  // namespace

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
