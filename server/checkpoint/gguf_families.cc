#include "checkpoint/gguf_families.h"

#include <array>

namespace linchpin {
namespace {

using Kind = GgufTensorKind;

constexpr auto kOuter = std::to_array<GgufTensorName>({
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm", Kind::kNorm},
    {"output", "lm_head"},
    {"rope_freqs", "", Kind::kConfig},
    {"rope_factors_long", "", Kind::kConfig},
    {"rope_factors_short", "", Kind::kConfig},
});

constexpr auto kAttention = std::to_array<GgufTensorName>({
    {"attn_q", "self_attn.q_proj", Kind::kQuery},
    {"attn_k", "self_attn.k_proj", Kind::kKey},
    {"attn_v", "self_attn.v_proj", Kind::kValue},
    {"attn_output", "self_attn.o_proj", Kind::kAttentionOutput},
});

constexpr auto kQueryKeyNorms = std::to_array<GgufTensorName>({
    {"attn_q_norm", "self_attn.q_norm", Kind::kNorm},
    {"attn_k_norm", "self_attn.k_norm", Kind::kNorm},
});

// Query, key and value in one matrix, gate and up in another.
constexpr auto kFused = std::to_array<GgufTensorName>({
    {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj", Kind::kAttentionOutput},
    {"ffn_up", "mlp.gate_up_proj", Kind::kMlp},
    {"ffn_down", "mlp.down_proj", Kind::kMlp},
});

constexpr auto kMlp = std::to_array<GgufTensorName>({
    {"ffn_gate", "mlp.gate_proj", Kind::kMlp},
    {"ffn_up", "mlp.up_proj", Kind::kMlp},
    {"ffn_down", "mlp.down_proj", Kind::kMlp},
});

constexpr auto kNormsBefore = std::to_array<GgufTensorName>({
    {"attn_norm", "input_layernorm", Kind::kNorm},
    {"ffn_norm", "post_attention_layernorm", Kind::kNorm},
});

constexpr auto kNormsAfter = std::to_array<GgufTensorName>({
    {"post_attention_norm", "post_attention_layernorm", Kind::kNorm},
    {"post_ffw_norm", "post_feedforward_layernorm", Kind::kNorm},
});

// Besides those after.
constexpr auto kNormsBeforeToo = std::to_array<GgufTensorName>({
    {"attn_norm", "input_layernorm", Kind::kNorm},
    {"ffn_norm", "pre_feedforward_layernorm", Kind::kNorm},
});

constexpr auto kMixtralExperts = std::to_array<GgufTensorName>({
    {"ffn_gate_inp", "block_sparse_moe.gate"},
    {"ffn_gate_exps", "block_sparse_moe.experts.{}.w1", Kind::kExperts},
    {"ffn_down_exps", "block_sparse_moe.experts.{}.w2", Kind::kExperts},
    {"ffn_up_exps", "block_sparse_moe.experts.{}.w3", Kind::kExperts},
    // as the first of them were written
    {"ffn_gate", "block_sparse_moe.experts.{}.w1", Kind::kExpert},
    {"ffn_down", "block_sparse_moe.experts.{}.w2", Kind::kExpert},
    {"ffn_up", "block_sparse_moe.experts.{}.w3", Kind::kExpert},
});

constexpr auto kQwenExperts = std::to_array<GgufTensorName>({
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.{}.gate_proj", Kind::kExperts},
    {"ffn_up_exps", "mlp.experts.{}.up_proj", Kind::kExperts},
    {"ffn_down_exps", "mlp.experts.{}.down_proj", Kind::kExperts},
});

constexpr auto kSharedExpert = std::to_array<GgufTensorName>({
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", Kind::kRow},
    {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
    {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
});

constexpr GgufKeyKind kReal = GgufKeyKind::kReal;
constexpr GgufKeyKind kInteger = GgufKeyKind::kInteger;
constexpr bool kRequired = true;

// Heads, their size and the rotation are read by themselves.
constexpr auto kShape = std::to_array<GgufKey>({
    {"context_length", "max_position_embeddings"},
    {"embedding_length", "hidden_size", kInteger, kRequired},
    {"block_count", "num_hidden_layers", kInteger, kRequired},
    {"feed_forward_length", "intermediate_size"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", kReal, kRequired},
});

constexpr auto kMixtralKeys = std::to_array<GgufKey>({
    {"expert_count", "num_local_experts", kInteger, kRequired},
    {"expert_used_count", "num_experts_per_tok", kInteger, kRequired},
});

constexpr auto kQwenExpertKeys = std::to_array<GgufKey>({
    {"expert_count", "num_experts", kInteger, kRequired},
    {"expert_used_count", "num_experts_per_tok", kInteger, kRequired},
    {"expert_feed_forward_length", "moe_intermediate_size", kInteger, kRequired},
});

constexpr auto kSharedExpertKeys = std::to_array<GgufKey>({
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size", kInteger, kRequired},
});

constexpr auto kWindow = std::to_array<GgufKey>({
    {"attention.sliding_window", "sliding_window"},
});

constexpr auto kSoftCaps = std::to_array<GgufKey>({
    {"attn_logit_softcapping", "attn_logit_softcapping", kReal},
    {"final_logit_softcapping", "final_logit_softcapping", kReal},
});

constexpr auto kGemma3Rotation = std::to_array<GgufKey>({
    {"attention.sliding_window_pattern", "sliding_window_pattern", GgufKeyKind::kPattern},
    {"rope.freq_base_swa", "rope_local_base_freq", kReal},
});

constexpr auto kNeutral = std::to_array<GgufNeutralKey>({
    {"attention.causal", 1, 1},
    {"attention.clamp_kqv", 0, 0},
    {"attention.max_alibi_bias", 0, 0},
    {"embedding_scale", 0, 1},
    {"expert_gating_func", 0, 1},  // softmax
    {"expert_group_count", 0, 1},
    {"expert_weights_scale", 0, 1},
    {"leading_dense_block_count", 0, 0},
    {"logit_scale", 0, 1},
    {"nextn_predict_layers", 0, 0},
    {"residual_scale", 0, 1},
    {"use_parallel_residual", 0, 0},
});

constexpr std::string_view kSilu = R"({"hidden_act": "silu"})";
constexpr std::string_view kGelu =
    R"({"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"})";

std::vector<GgufFamily> MakeFamilies() {
  const GgufFamily llama = {.architecture = "llama",
                            .model_type = "llama",
                            .tensors = {kNormsBefore, kAttention, kMlp},
                            .keys = {kShape},
                            .constants = kSilu,
                            .bias = GgufBias::kAll,
                            .paired_rows = true};
  GgufFamily mixtral = llama;
  mixtral.bias = GgufBias::kNever;
  mixtral.applies_if = "expert_count";
  mixtral.model_type = "mixtral";
  mixtral.tensors = {kNormsBefore, kAttention, kMixtralExperts};
  mixtral.keys = {kShape, kMixtralKeys, kWindow};
  GgufFamily mistral = llama;
  mistral.bias = GgufBias::kNever;
  mistral.applies_if = "attention.sliding_window";
  mistral.model_type = "mistral";
  mistral.keys = {kShape, kWindow};
  const GgufFamily gemma2 = {
      .architecture = "gemma2",
      .model_type = "gemma2",
      .tensors = {kNormsBeforeToo, kNormsAfter, kAttention, kMlp},
      .keys = {kShape, kWindow, kSoftCaps},
      .constants = R"({"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
                       "sliding_window": 4096,
                       "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0})",
      .bias = GgufBias::kAttention,
      .norm_added = 1,
      .layers_scaled_by_hidden = 46,
      .runs_windows = true};
  GgufFamily gemma3 = gemma2;
  gemma3.architecture = "gemma3";
  gemma3.model_type = "gemma3_text";
  gemma3.tensors.emplace_back(kQueryKeyNorms);
  gemma3.keys.emplace_back(kGemma3Rotation);
  gemma3.constants =
      R"({"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
          "sliding_window_pattern": 6, "rope_local_base_freq": 10000.0})";
  gemma3.layers_scaled_by_hidden = 62;
  return {
      mixtral,
      mistral,
      llama,
      {.architecture = "qwen2",
       .model_type = "qwen2",
       .tensors = {kNormsBefore, kAttention, kMlp},
       .keys = {kShape},
       .constants = kSilu,
       .bias = GgufBias::kQueryKeyValue},
      {.architecture = "qwen3",
       .model_type = "qwen3",
       .tensors = {kNormsBefore, kAttention, kQueryKeyNorms, kMlp},
       .keys = {kShape},
       .constants = kSilu,
       .bias = GgufBias::kAttention},
      {.architecture = "qwen2moe",
       .model_type = "qwen2_moe",
       .tensors = {kNormsBefore, kAttention, kQwenExperts, kSharedExpert},
       .keys = {kShape, kQwenExpertKeys, kSharedExpertKeys},
       .constants = R"({"hidden_act": "silu", "norm_topk_prob": false, "decoder_sparse_step": 1})",
       .bias = GgufBias::kQueryKeyValue},
      {.architecture = "qwen3moe",
       .model_type = "qwen3_moe",
       .tensors = {kNormsBefore, kAttention, kQueryKeyNorms, kQwenExperts},
       .keys = {kShape, kQwenExpertKeys},
       .constants = R"({"hidden_act": "silu", "norm_topk_prob": true, "decoder_sparse_step": 1})",
       .bias = GgufBias::kAttention},
      {.architecture = "gemma",
       .model_type = "gemma",
       .tensors = {kNormsBefore, kAttention, kMlp},
       .keys = {kShape},
       .constants = kGelu,
       .bias = GgufBias::kAttention,
       .norm_added = 1},
      gemma2,
      gemma3,
      {.architecture = "phi3",
       .model_type = "phi3",
       .tensors = {kNormsBefore, kFused},
       .keys = {kShape, kWindow},
       .constants = kSilu},
      {.architecture = "olmo2",
       .model_type = "olmo2",
       .tensors = {kNormsAfter, kAttention, kQueryKeyNorms, kMlp},
       .keys = {kShape},
       .constants = kSilu,
       .bias = GgufBias::kAttention,
       // with a window it is OLMo 3
       .neutral = {{"attention.sliding_window", 0, 0}}},
  };
}

}  // namespace

absl::Span<const GgufTensorName> GgufOuterTensors() { return kOuter; }
absl::Span<const GgufNeutralKey> GgufNeutralKeys() { return kNeutral; }

const std::vector<GgufFamily>& GgufFamilies() {
  static const auto& families = *new std::vector<GgufFamily>(MakeFamilies());
  return families;
}

}  // namespace linchpin
