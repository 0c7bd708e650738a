#include "checkpoint/model_config.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/types/span.h"
#include "checkpoint/attention_config.h"
#include "checkpoint/config_fields.h"
#include "fmt/ranges.h"

namespace linchpin {
namespace {

// No model comes near; within them no product of two overflows and no
// allocation that follows from one of them alone is absurd.
constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kMaxHeads = int64_t{1} << 16;
constexpr int64_t kMaxLayers = int64_t{1} << 14;
constexpr int64_t kMaxExperts = int64_t{1} << 16;
constexpr int64_t kMaxVocabulary = int64_t{1} << 28;
constexpr int64_t kMaxPositions = int64_t{1} << 40;

// What families call the same thing; the first that is given counts.
using Keys = absl::Span<const std::string_view>;
constexpr std::string_view kHidden[] = {"hidden_size", "n_embd"};
constexpr std::string_view kLayers[] = {"num_hidden_layers", "n_layer"};
constexpr std::string_view kHeads[] = {"num_attention_heads", "n_head"};
constexpr std::string_view kPositions[] = {"max_position_embeddings", "n_positions"};
constexpr std::string_view kNormEps[] = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"};
constexpr std::string_view kActivation[] = {"hidden_activation", "hidden_act",
                                            "activation_function", "activation"};
constexpr std::string_view kExperts[] = {"num_local_experts", "num_experts"};

absl::StatusOr<std::optional<int64_t>> Find(const ConfigFields& fields, Keys keys, int64_t high) {
  for (const std::string_view key : keys) {
    ASSIGN_OR_RETURN(const auto value, fields.Integer(key, 1, high));
    if (value) return value;
  }
  return std::nullopt;
}

absl::StatusOr<int64_t> Required(const ConfigFields& fields, Keys keys, int64_t high) {
  ASSIGN_OR_RETURN(const auto value, Find(fields, keys, high));
  if (!value) return fields.Invalid(*keys.begin(), "is missing");
  return *value;
}

absl::StatusOr<const Architecture*> FindArchitecture(const ConfigFields& fields,
                                                     std::string_view file) {
  ASSIGN_OR_RETURN(const auto family, fields.Text("model_type"));
  if (!family) return fields.Invalid("model_type", "is missing");
  for (const Architecture& known : Architectures()) {
    if (known.family == *family) return &known;
  }
  return Error(Reason::kFamilyUnsupported, file,
               fmt::format("model_type \"{}\" is not a supported family", *family),
               fmt::format("supported: {}", fmt::join(SupportedFamilies(), ", ")));
}

// Switches that change what the model computes, and the one setting of each
// that is built.
struct Switch {
  std::string_view key;
  bool built;
};
constexpr Switch kSwitches[] = {{"rope_interleaved", false},
                                {"use_bidirectional_attention", false},
                                {"do_layer_norm_before", true},
                                {"_remove_final_layer_norm", false},
                                {"layer_norm_elementwise_affine", true},
                                {"add_cross_attention", false},
                                {"is_encoder_decoder", false}};

// Eight-bit floats with scales are read; activations are not rounded as their
// kernels would.  Any other quantization is not.
absl::Status RefuseQuantized(std::string_view file, const ConfigFields& fields) {
  ASSIGN_OR_RETURN(const Json* object, fields.Object("quantization_config"));
  if (object == nullptr) return absl::OkStatus();
  const ConfigFields quantization(fmt::format("{}: quantization_config", file), *object);
  ASSIGN_OR_RETURN(const auto method, quantization.Text("quant_method"));
  ASSIGN_OR_RETURN(const auto format, quantization.Text("format"));
  const bool fp8 =
      method == "fp8" || (method == "compressed-tensors" && format == "float-quantized");
  if (fp8) return absl::OkStatus();
  return fields.Unsupported("quantization_config", "says that the model is already quantized",
                            "give the original checkpoint");
}

absl::Status RefuseUnbuilt(std::string_view file, const ConfigFields& fields) {
  RETURN_IF_ERROR(RefuseQuantized(file, fields));
  for (const Switch& known : kSwitches) {
    ASSIGN_OR_RETURN(const auto value, fields.Bool(known.key));
    if (value.value_or(known.built) != known.built) {
      return fields.Unsupported(known.key, fmt::format("{} is not built", !known.built));
    }
  }
  return absl::OkStatus();
}

absl::Status ParseHeads(const ConfigFields& fields, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.heads, Required(fields, kHeads, kMaxHeads));
  ASSIGN_OR_RETURN(const auto kv_heads, Find(fields, {"num_key_value_heads"}, kMaxHeads));
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
  if (config.head_dim > kMaxWidth / config.heads) {
    return fields.Invalid(
        "head_dim", fmt::format("{} is too large for {} heads", config.head_dim, config.heads));
  }
  return absl::OkStatus();
}

absl::Status ParseShape(const ConfigFields& fields, ModelConfig& config) {
  ASSIGN_OR_RETURN(config.hidden, Required(fields, kHidden, kMaxWidth));
  ASSIGN_OR_RETURN(config.layers, Required(fields, kLayers, kMaxLayers));
  ASSIGN_OR_RETURN(config.vocab, Required(fields, {"vocab_size"}, kMaxVocabulary));
  ASSIGN_OR_RETURN(const auto intermediate,
                   Find(fields, {config.architecture.intermediate_key}, kMaxWidth));
  if (!intermediate && !config.architecture.gate.empty()) {
    return fields.Invalid(config.architecture.intermediate_key, "is missing");
  }
  config.intermediate = intermediate.value_or(4 * config.hidden);
  ASSIGN_OR_RETURN(const auto projected, fields.Integer("word_embed_proj_dim", 1, kMaxWidth));
  if (projected.value_or(config.hidden) != config.hidden) {
    return fields.Unsupported("word_embed_proj_dim", "other than hidden_size is not built");
  }
  ASSIGN_OR_RETURN(const auto positions, Find(fields, kPositions, kMaxPositions));
  config.max_positions = positions.value_or(0);
  for (const std::string_view key : kNormEps) {
    ASSIGN_OR_RETURN(const auto eps, fields.Positive(key));
    if (!eps) continue;
    config.norm_eps = *eps;
    break;
  }
  return ParseHeads(fields, config);
}

absl::Status ParseActivation(const ConfigFields& fields, ModelConfig& config) {
  static constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
      {"gelu", Activation::kGelu},          {"gelu_python", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},  {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"relu", Activation::kRelu},
  };
  for (const std::string_view key : kActivation) {
    ASSIGN_OR_RETURN(const auto name, fields.Text(key));
    if (!name) continue;
    const auto* known = std::find_if(std::begin(kNames), std::end(kNames),
                                     [&name](const auto& entry) { return entry.first == *name; });
    if (known == std::end(kNames)) {
      return fields.Unsupported(key, fmt::format("\"{}\" is not built", *name));
    }
    config.activation = known->second;
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

// Which of falcon's three layouts this is, and how many keys its heads share.
absl::Status ParseFalcon(const ConfigFields& fields, ModelConfig& config) {
  Architecture& layout = config.architecture;
  ASSIGN_OR_RETURN(const auto parallel, fields.Bool("parallel_attn"));
  ASSIGN_OR_RETURN(const auto grouped, fields.Bool("new_decoder_architecture"));
  ASSIGN_OR_RETURN(const auto one_key, fields.Bool("multi_query"));
  ASSIGN_OR_RETURN(const auto alibi, fields.Bool("alibi"));
  ASSIGN_OR_RETURN(const auto norms, fields.Integer("num_ln_in_parallel_attn", 1, 2));
  ASSIGN_OR_RETURN(const auto kv_heads, fields.Integer("num_kv_heads", 1, kMaxHeads));
  const bool is_new = grouped.value_or(false);
  if (is_new && !parallel.value_or(true)) {
    return fields.Unsupported("parallel_attn", "false with new_decoder_architecture is not built");
  }
  if (is_new && norms.value_or(2) == 2) {
    layout.attention_input_norm = "ln_attn";
    layout.mlp_input_norm = "ln_mlp";
  } else if (!parallel.value_or(true)) {
    layout.parallel = false;
    layout.mlp_input_norm = "post_attention_layernorm";
  }
  if (alibi.value_or(false)) layout.positions = PositionKind::kAlibi;
  config.kv_heads = is_new                   ? kv_heads.value_or(config.heads)
                    : one_key.value_or(true) ? 1
                                             : config.heads;
  if (config.heads % config.kv_heads != 0) {
    return fields.Invalid("num_kv_heads", fmt::format("{} does not divide the {} heads",
                                                      config.kv_heads, config.heads));
  }
  return absl::OkStatus();
}

// What is rotated must come in pairs, each with its divisor.
absl::Status CheckRotation(const ConfigFields& fields, const ModelConfig& config) {
  if (config.architecture.positions != PositionKind::kRotary) return absl::OkStatus();
  for (const RopeConfig* rope : {&config.rope.full, &config.rope.windowed}) {
    const auto rotated = static_cast<int64_t>(static_cast<double>(config.head_dim) * rope->partial);
    if (rotated % 2 != 0 || rotated < (rope->type == RopeType::kDynamic ? 4 : 2)) {
      return fields.Invalid("head_dim",
                            fmt::format("{} of it are rotated, which needs pairs", rotated));
    }
    const bool long_rope = rope->type == RopeType::kLongRope;
    for (const auto* divisors : {&rope->short_factor, &rope->long_factor}) {
      if (!long_rope || std::cmp_equal(2 * divisors->size(), rotated)) continue;
      return fields.Invalid("rope_scaling",
                            fmt::format("{} factors for {} pairs", divisors->size(), rotated / 2));
    }
  }
  return absl::OkStatus();
}

// Parts of the architecture that a family leaves to each config.
absl::Status ParseLayout(const ConfigFields& fields, ModelConfig& config) {
  Architecture& layout = config.architecture;
  if (config.family == "falcon") RETURN_IF_ERROR(ParseFalcon(fields, config));
  ASSIGN_OR_RETURN(const auto parallel, fields.Bool("use_parallel_residual"));
  if (config.family == "gpt_neox") layout.parallel = parallel.value_or(true);
  ASSIGN_OR_RETURN(const auto qk_norm, fields.Bool("qk_layernorm"));
  if (config.family == "phi" && qk_norm.value_or(false)) layout.qk_norm = QkNorm::kHead;
  return absl::OkStatus();
}

absl::Status ParseExperts(const ConfigFields& fields, ModelConfig& config) {
  config.sparse.assign(static_cast<size_t>(config.layers), false);
  if (config.architecture.router.empty()) return absl::OkStatus();
  ExpertConfig& experts = config.experts;
  ASSIGN_OR_RETURN(experts.count, Required(fields, kExperts, kMaxExperts));
  ASSIGN_OR_RETURN(experts.per_token, Required(fields, {"num_experts_per_tok"}, experts.count));
  ASSIGN_OR_RETURN(const auto renormalize, fields.Bool("norm_topk_prob"));
  experts.renormalize = renormalize.value_or(false);
  ASSIGN_OR_RETURN(const auto width, Find(fields, {"moe_intermediate_size"}, kMaxWidth));
  experts.intermediate = width.value_or(config.intermediate);
  ASSIGN_OR_RETURN(const auto shared, Find(fields, {"shared_expert_intermediate_size"}, kMaxWidth));
  experts.shared_intermediate = config.architecture.shared_down.empty() ? 0 : shared.value_or(0);
  ASSIGN_OR_RETURN(const auto step, fields.Integer("decoder_sparse_step", 1, kMaxLayers));
  const Json* dense = fields.Find("mlp_only_layers");
  if (dense != nullptr && !dense->is_array()) {
    return fields.Invalid("mlp_only_layers", "must be a list of layers");
  }
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const bool named =
        dense != nullptr && std::find(dense->begin(), dense->end(), Json(layer)) != dense->end();
    config.sparse[static_cast<size_t>(layer)] = !named && (layer + 1) % step.value_or(1) == 0;
  }
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

// The text model's own object, with what only the one around it says.
absl::StatusOr<Json> TextConfig(std::string_view file, Json document) {
  const auto text = document.find("text_config");
  if (text == document.end() || text->is_null()) return document;
  if (!text->is_object()) {
    return ConfigFields(file, document).Invalid("text_config", "must be an object");
  }
  Json inner = *text;
  inner.erase("tie_word_embeddings");  // the model around it ties, or does not
  for (const char* key : {"bos_token_id", "tie_word_embeddings", "quantization_config"}) {
    if (!inner.contains(key) && document.contains(key)) inner[key] = document[key];
  }
  return inner;
}

absl::StatusOr<Json> ParseDocument(std::string_view file, std::string_view json) {
  ASSIGN_OR_RETURN(Json document, ParseJson(file, json, Reason::kConfigInvalid));
  if (!document.is_object()) {
    return Error(Reason::kConfigInvalid, file, "not a JSON object", kMalformedRemedy);
  }
  return TextConfig(file, std::move(document));
}

}  // namespace

absl::StatusOr<ModelConfig> ModelConfig::Parse(std::string_view file, std::string_view json) {
  ASSIGN_OR_RETURN(Json document, ParseDocument(file, json));
  const ConfigFields fields(file, document);
  ASSIGN_OR_RETURN(const Architecture* family, FindArchitecture(fields, file));
  const Json defaults = Json::parse(family->defaults);
  document.insert(defaults.begin(), defaults.end());  // of keys that are not there

  ModelConfig config;
  config.family = family->family;
  config.architecture = *family;
  RETURN_IF_ERROR(RefuseUnbuilt(file, fields));
  RETURN_IF_ERROR(ParseShape(fields, config));
  RETURN_IF_ERROR(ParseActivation(fields, config));
  RETURN_IF_ERROR(ParseLayout(fields, config));
  RETURN_IF_ERROR(ParseAttention(fields, config));
  ASSIGN_OR_RETURN(config.rope, ParseRope(file, fields, family->rope_theta, config.max_positions));
  RETURN_IF_ERROR(CheckRotation(fields, config));
  RETURN_IF_ERROR(ParseExperts(fields, config));
  ASSIGN_OR_RETURN(config.tied_embeddings, fields.Bool("tie_word_embeddings"));
  RETURN_IF_ERROR(ParseBos(fields, file, config));
  return config;
}

}  // namespace linchpin
