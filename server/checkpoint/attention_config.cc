#include "checkpoint/attention_config.h"

#include <cmath>
#include <utility>
#include <vector>

#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr int64_t kMaxWindow = int64_t{1} << 40;

// The layers that see a window by `layer_types`.
absl::StatusOr<std::vector<bool>> ListedLayers(const ConfigFields& fields, const Json& types,
                                               int64_t layers) {
  if (!types.is_array() || std::cmp_not_equal(types.size(), layers)) {
    return fields.Invalid("layer_types", fmt::format("must list {} layers", layers));
  }
  std::vector<bool> windowed;
  for (const Json& type : types) {
    if (type != "full_attention" && type != "sliding_attention") {
      return fields.Unsupported("layer_types", fmt::format("{} is not built", type.dump()));
    }
    windowed.push_back(type == "sliding_attention");
  }
  return windowed;
}

// The layers that see a window by the family's rule.
absl::StatusOr<std::vector<bool>> RuledLayers(const ConfigFields& fields,
                                              const ModelConfig& config) {
  ASSIGN_OR_RETURN(const auto used, fields.Bool("use_sliding_window"));
  ASSIGN_OR_RETURN(const auto from, fields.Integer("max_window_layers", 0, kMaxWindow));
  ASSIGN_OR_RETURN(const auto pattern, fields.Integer("sliding_window_pattern", 1, kMaxWindow));
  const int64_t bound = from.value_or(28);  // what every config of these families means
  std::vector<bool> windowed;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const bool odd = layer % 2 != 0;
    switch (config.architecture.windows) {
      case WindowRule::kNone:
        windowed.push_back(false);
        break;
      case WindowRule::kEveryLayer:
        windowed.push_back(true);
        break;
      case WindowRule::kWhereUsed:
        windowed.push_back(used.value_or(false) && layer >= bound);
        break;
      case WindowRule::kUntilUsed:
        windowed.push_back(used.value_or(false) && !odd && layer < bound);
        break;
      case WindowRule::kAlternating:
        windowed.push_back(!odd);
        break;
      case WindowRule::kPattern:
        windowed.push_back((layer + 1) % pattern.value_or(6) != 0);
        break;
    }
  }
  return windowed;
}

absl::Status ParseWindows(const ConfigFields& fields, ModelConfig& config) {
  config.windows.assign(static_cast<size_t>(config.layers), 0);
  ASSIGN_OR_RETURN(const auto window, fields.Integer("sliding_window", 0, kMaxWindow));
  const Json* types = fields.Find("layer_types");
  ASSIGN_OR_RETURN(
      const std::vector<bool> windowed,
      types != nullptr ? ListedLayers(fields, *types, config.layers) : RuledLayers(fields, config));
  for (size_t layer = 0; layer < windowed.size(); ++layer) {
    if (!windowed[layer]) continue;
    if (window.value_or(0) > 0) {
      config.windows[layer] = *window;
    } else if (types != nullptr) {
      return fields.Invalid("sliding_window", "is missing though layer_types names windows");
    }
  }
  return absl::OkStatus();
}

absl::Status ParseScale(const ConfigFields& fields, ModelConfig& config) {
  ASSIGN_OR_RETURN(const auto scalar, fields.Positive("query_pre_attn_scalar"));
  ASSIGN_OR_RETURN(const auto scaled, fields.Bool("scale_attn_weights"));
  ASSIGN_OR_RETURN(const auto by_layer, fields.Bool("scale_attn_by_inverse_layer_idx"));
  if (by_layer.value_or(false)) {
    return fields.Unsupported("scale_attn_by_inverse_layer_idx", "is not built");
  }
  const double squared = scalar.value_or(static_cast<double>(config.head_dim));
  config.attention_scale = scaled.value_or(true) ? 1 / std::sqrt(squared) : 1;
  ASSIGN_OR_RETURN(const auto attention_cap, fields.Positive("attn_logit_softcapping"));
  ASSIGN_OR_RETURN(const auto output_cap, fields.Positive("final_logit_softcapping"));
  ASSIGN_OR_RETURN(const auto clip, fields.Positive("clip_qkv"));
  config.attention_softcap = attention_cap.value_or(0);
  config.output_softcap = output_cap.value_or(0);
  config.clip_qkv = clip.value_or(0);
  return absl::OkStatus();
}

absl::Status ParseBiases(const ConfigFields& fields, ModelConfig& config) {
  const Architecture& family = config.architecture;
  config.biases = family.biases;
  const auto read = [&fields](std::string_view key, bool& bias) -> absl::Status {
    if (key.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const auto given, fields.Bool(key));
    bias = given.value_or(bias);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read(family.qkv_bias_key, config.biases.qkv));
  RETURN_IF_ERROR(read(family.attention_output_bias_key, config.biases.attention_output));
  return read(family.mlp_bias_key, config.biases.mlp);
}

}  // namespace

absl::Status ParseAttention(const ConfigFields& fields, ModelConfig& config) {
  RETURN_IF_ERROR(ParseWindows(fields, config));
  RETURN_IF_ERROR(ParseScale(fields, config));
  return ParseBiases(fields, config);
}

}  // namespace linchpin
