#include "checkpoint/compression_config.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/status.h"
#include "checkpoint/config_fields.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr std::array<std::string_view, 3> kFormats = {"pack-quantized", "int-quantized",
                                                      "float-quantized"};
constexpr std::string_view kAllLinears = "Linear";
constexpr std::string_view kFixedScales =
    "activations are rounded by scales that the model brings along: the loss is that of the "
    "weights alone";

// "re:.*lm_head$": the name that the pattern stands for, or empty.
std::string NameIn(std::string_view target) {
  constexpr std::string_view kBefore = "re:.*";
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  if (!target.starts_with(kBefore) || !target.ends_with('$')) return "";
  target.remove_prefix(kBefore.size());
  target.remove_suffix(1);
  if (target.find_first_not_of(kLetters) != std::string_view::npos) return "";
  return std::string(target);
}

// None for all linear layers.
absl::StatusOr<std::vector<std::string>> NamesOf(const ConfigFields& group) {
  const Json* targets = group.Find("targets");
  if (targets == nullptr || !targets->is_array()) return group.Invalid("targets", "is no list");
  std::vector<std::string> names;
  for (const Json& target : *targets) {
    if (!target.is_string()) return group.Invalid("targets", "holds what is no text");
    const auto& text = target.get_ref<const std::string&>();
    if (text == kAllLinears) return std::vector<std::string>();
    names.push_back(NameIn(text));
    if (names.back().empty()) {
      return group.Unsupported("targets", fmt::format("'{}' is not understood", text),
                               "evaluate the model that it was made from");
    }
  }
  return names;
}

// Null where the scales are not made per token.
absl::StatusOr<std::optional<TokenRounding>> RoundingIn(const ConfigFields& group) {
  ASSIGN_OR_RETURN(const Json* object, group.Object("input_activations"));
  if (object == nullptr) return TokenRounding::kNone;
  const ConfigFields activations("input_activations", *object);
  ASSIGN_OR_RETURN(const auto strategy, activations.Text("strategy"));
  ASSIGN_OR_RETURN(const auto type, activations.Text("type"));
  ASSIGN_OR_RETURN(const auto bits, activations.Integer("num_bits", 1, 64));
  ASSIGN_OR_RETURN(const auto symmetric, activations.Bool("symmetric"));
  const Json* dynamic = activations.Find("dynamic");
  const bool per_token = dynamic != nullptr && dynamic->is_boolean() && dynamic->get<bool>() &&
                         strategy == "token" && bits == 8 && symmetric.value_or(true);
  if (!per_token) return std::optional<TokenRounding>();
  return type == "float" ? TokenRounding::kFloat8 : TokenRounding::kInt8;
}

absl::Status RefuseOthers(const ConfigFields& fields, std::string_view key) {
  ASSIGN_OR_RETURN(const Json* object, fields.Object(key));
  if (object == nullptr || object->empty()) return absl::OkStatus();
  return fields.Unsupported(key, "is not measured", "evaluate the model that it was made from");
}

}  // namespace

absl::StatusOr<CompressionConfig> CompressionConfig::Parse(std::string_view file,
                                                           const Json& config) {
  CompressionConfig parsed;
  if (!config.is_object()) return ConfigFields(file, config).Invalid("{}", "is no object");
  ASSIGN_OR_RETURN(const Json* object, ConfigFields(file, config).Object("quantization_config"));
  if (object == nullptr) return parsed;
  const ConfigFields fields(fmt::format("{}: quantization_config", file), *object);
  ASSIGN_OR_RETURN(const auto method, fields.Text("quant_method"));
  ASSIGN_OR_RETURN(const auto format, fields.Text("format"));
  if (method != "compressed-tensors" || !format ||
      std::find(kFormats.begin(), kFormats.end(), *format) == kFormats.end()) {
    return parsed;
  }
  RETURN_IF_ERROR(RefuseOthers(fields, "kv_cache_scheme"));
  ASSIGN_OR_RETURN(const Json* groups, fields.Object("config_groups"));
  // Weights in FP8 are read by their scales alone, whatever is said of them.
  if (groups == nullptr && *format == "float-quantized") return parsed;
  if (groups == nullptr) return fields.Invalid("config_groups", "is missing");
  for (const auto& [name, value] : groups->items()) {
    ASSIGN_OR_RETURN(const Json* described,
                     ConfigFields(fmt::format("{}: config_groups", file), *groups).Object(name));
    if (described == nullptr) continue;
    const ConfigFields group(fmt::format("{}: config_groups: {}", file, name), *described);
    RETURN_IF_ERROR(RefuseOthers(group, "output_activations"));
    Group& entry = parsed.groups_.emplace_back();
    ASSIGN_OR_RETURN(entry.names, NamesOf(group));
    ASSIGN_OR_RETURN(const auto rounding, RoundingIn(group));
    entry.rounding = rounding.value_or(TokenRounding::kNone);
    if (!rounding) parsed.note_ = kFixedScales;
  }
  if (parsed.groups_.empty()) return fields.Invalid("config_groups", "is empty");
  return parsed;
}

TokenRounding CompressionConfig::RoundingOf(std::string_view module) const {
  const std::string_view last = module.substr(module.rfind('.') + 1);
  TokenRounding others = TokenRounding::kNone;
  for (const Group& group : groups_) {
    if (std::find(group.names.begin(), group.names.end(), last) != group.names.end()) {
      return group.rounding;
    }
    if (group.names.empty()) others = group.rounding;
  }
  return others;
}

}  // namespace linchpin
