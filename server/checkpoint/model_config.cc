#include "checkpoint/model_config.h"

#include <algorithm>

#include "checkpoint/config_fields.h"
#include "fmt/ranges.h"

namespace linchpin {
namespace {

// No model comes near; within them no product of two overflows and no
// allocation that follows from one of them alone is absurd.
constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxLayers = int64_t{1} << 14;
constexpr int64_t kMaxVocabulary = int64_t{1} << 28;
constexpr int64_t kMaxPositions = int64_t{1} << 40;

absl::StatusOr<int64_t> Required(const ConfigFields& fields, std::string_view key, int64_t high) {
  ASSIGN_OR_RETURN(const std::optional<int64_t> value, fields.Integer(key, 1, high));
  if (!value) return fields.Invalid(key, "is missing");
  return *value;
}

absl::StatusOr<std::string> ParseFamily(const ConfigFields& fields, std::string_view file) {
  ASSIGN_OR_RETURN(const std::optional<std::string> family, fields.Text("model_type"));
  if (!family) return fields.Invalid("model_type", "is missing");
  const auto& supported = SupportedFamilies();
  if (std::find(supported.begin(), supported.end(), *family) == supported.end()) {
    return Error(Reason::kFamilyUnsupported, file,
                 fmt::format("model_type \"{}\" is not a supported family", *family),
                 fmt::format("supported: {}", fmt::join(supported, ", ")));
  }
  return *family;
}

// Keys that change what the model computes, in a way that is not built.
absl::Status RefuseUnbuilt(const ConfigFields& fields) {
  if (fields.Find("quantization_config") != nullptr) {
    return fields.Unsupported("quantization_config", "says that the model is already quantized",
                              "give the original checkpoint");
  }
  ASSIGN_OR_RETURN(const auto activation, fields.Text("hidden_act"));
  if (activation && *activation != "silu" && *activation != "swish") {
    return fields.Unsupported("hidden_act",
                              fmt::format("\"{}\" is not built, only silu", *activation));
  }
  ASSIGN_OR_RETURN(const auto partial, fields.Positive("partial_rotary_factor"));
  if (partial && *partial != 1) {
    return fields.Unsupported("partial_rotary_factor", "other than 1 is not built");
  }
  ASSIGN_OR_RETURN(const auto interleaved, fields.Bool("rope_interleaved"));
  if (interleaved.value_or(false)) {
    return fields.Unsupported("rope_interleaved", "is not built");
  }
  const Json* layer_types = fields.Find("layer_types");
  if (layer_types != nullptr && layer_types->is_array()) {
    for (const Json& type : *layer_types) {
      if (type != "full_attention") {
        return fields.Unsupported("layer_types", "other than full_attention are not built");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ParseShape(const ConfigFields& fields, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.hidden, Required(fields, "hidden_size", kMaxWidth));
  ASSIGN_OR_RETURN(config.intermediate, Required(fields, "intermediate_size", kMaxWidth));
  ASSIGN_OR_RETURN(config.layers, Required(fields, "num_hidden_layers", kMaxLayers));
  ASSIGN_OR_RETURN(config.heads, Required(fields, "num_attention_heads", kMaxHeads));
  ASSIGN_OR_RETURN(config.vocab, Required(fields, "vocab_size", kMaxVocabulary));
  ASSIGN_OR_RETURN(const auto kv_heads, fields.Integer("num_key_value_heads", 1, kMaxHeads));
  config.kv_heads = kv_heads.value_or(config.heads);
  if (config.heads % config.kv_heads != 0) {
    return fields.Invalid("num_key_value_heads", fmt::format("{} does not divide the {} heads",
                                                             config.kv_heads, config.heads));
  }
  ASSIGN_OR_RETURN(const auto head_dim, fields.Integer("head_dim", 1, kMaxWidth));
  if (!head_dim && config.hidden % config.heads != 0) {
    return fields.Invalid("hidden_size", fmt::format("{} is not a multiple of the {} heads",
                                                     config.hidden, config.heads));
  }
  config.head_dim = head_dim.value_or(config.hidden / config.heads);
  if (config.head_dim % 2 != 0) {
    return fields.Invalid("head_dim",
                          fmt::format("{} is odd, rotation needs pairs", config.head_dim));
  }
  if (config.head_dim > kMaxWidth / config.heads) {
    return fields.Invalid(
        "head_dim", fmt::format("{} is too large for {} heads", config.head_dim, config.heads));
  }
  ASSIGN_OR_RETURN(const auto positions,
                   fields.Integer("max_position_embeddings", 1, kMaxPositions));
  config.max_positions = positions.value_or(0);
  return absl::OkStatus();
}

absl::StatusOr<Llama3RopeScaling> ParseLlama3(const ConfigFields& rope) {
  Llama3RopeScaling scaling;
  const auto required = [&rope](std::string_view key, double& value) -> absl::Status {
    ASSIGN_OR_RETURN(const auto number, rope.Positive(key));
    if (!number) return rope.Invalid(key, "is missing");
    value = *number;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(required("factor", scaling.factor));
  RETURN_IF_ERROR(required("low_freq_factor", scaling.low_freq_factor));
  RETURN_IF_ERROR(required("high_freq_factor", scaling.high_freq_factor));
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return rope.Invalid("high_freq_factor", "must exceed low_freq_factor");
  }
  ASSIGN_OR_RETURN(scaling.original_max_position,
                   Required(rope, "original_max_position_embeddings", kMaxPositions));
  return scaling;
}

// `rope_parameters` since transformers 5, `rope_scaling` before.
absl::Status ParseRope(const ConfigFields& fields, std::string_view file, ModelConfig& config) {
  ASSIGN_OR_RETURN(const Json* rope_parameters, fields.Object("rope_parameters"));
  ASSIGN_OR_RETURN(const Json* rope_scaling, fields.Object("rope_scaling"));
  ASSIGN_OR_RETURN(const auto theta, fields.Positive("rope_theta"));
  if (theta) config.rope_theta = *theta;
  const Json* object = rope_parameters != nullptr ? rope_parameters : rope_scaling;
  if (object == nullptr) return absl::OkStatus();

  const std::string_view name = rope_parameters != nullptr ? "rope_parameters" : "rope_scaling";
  const ConfigFields rope(fmt::format("{}: {}", file, name), *object);
  ASSIGN_OR_RETURN(const auto inner_theta, rope.Positive("rope_theta"));
  if (theta && inner_theta && *theta != *inner_theta) {
    return rope.Invalid("rope_theta", "differs from the rope_theta beside it");
  }
  if (inner_theta) config.rope_theta = *inner_theta;
  ASSIGN_OR_RETURN(const auto partial, rope.Positive("partial_rotary_factor"));
  if (partial && *partial != 1) {
    return rope.Unsupported("partial_rotary_factor", "other than 1 is not built");
  }
  ASSIGN_OR_RETURN(auto type, rope.Text("rope_type"));
  if (!type) {
    ASSIGN_OR_RETURN(type, rope.Text("type"));
  }
  if (!type) return rope.Invalid("rope_type", "is missing");
  if (*type == "default") return absl::OkStatus();
  if (*type != "llama3") {
    return rope.Unsupported("rope_type",
                            fmt::format("\"{}\" is not built, only default and llama3", *type));
  }
  ASSIGN_OR_RETURN(config.llama3_rope, ParseLlama3(rope));
  return absl::OkStatus();
}

absl::Status ParseFlags(const ConfigFields& fields, ModelConfig& config) {
  ASSIGN_OR_RETURN(const auto eps, fields.Positive("rms_norm_eps"));
  config.norm_eps = eps.value_or(config.norm_eps);
  ASSIGN_OR_RETURN(const auto attention_bias, fields.Bool("attention_bias"));
  config.attention_bias = attention_bias.value_or(false);
  ASSIGN_OR_RETURN(const auto mlp_bias, fields.Bool("mlp_bias"));
  config.mlp_bias = mlp_bias.value_or(false);
  ASSIGN_OR_RETURN(const auto tied, fields.Bool("tie_word_embeddings"));
  config.tied_embeddings = tied.value_or(false);
  return absl::OkStatus();
}

// A number, null, or a list of which the first counts.
absl::Status ParseBos(const ConfigFields& fields, std::string_view file, ModelConfig& config) {
  const Json* value = fields.Find("bos_token_id");
  if (value == nullptr || (value->is_array() && value->empty())) return absl::OkStatus();
  const Json single = {{"bos_token_id", value->is_array() ? value->front() : *value}};
  const ConfigFields first(file, single);
  ASSIGN_OR_RETURN(config.bos, first.Integer("bos_token_id", 0, config.vocab - 1));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ModelConfig::Parse(std::string_view file, std::string_view json) {
  ASSIGN_OR_RETURN(const Json document, ParseJson(file, json, Reason::kConfigInvalid));
  if (!document.is_object()) {
    return Error(Reason::kConfigInvalid, file, "not a JSON object", kMalformedRemedy);
  }
  const ConfigFields fields(file, document);
  ModelConfig config;
  ASSIGN_OR_RETURN(config.family, ParseFamily(fields, file));
  RETURN_IF_ERROR(RefuseUnbuilt(fields));
  RETURN_IF_ERROR(ParseShape(fields, config));
  RETURN_IF_ERROR(ParseRope(fields, file, config));
  RETURN_IF_ERROR(ParseFlags(fields, config));
  RETURN_IF_ERROR(ParseBos(fields, file, config));
  return config;
}

const std::vector<std::string>& SupportedFamilies() {
  static const auto& families = *new std::vector<std::string>{"llama"};
  return families;
}

}  // namespace linchpin
