// What the decoder of each model family is made of, as data.
//
// One forward pass runs them all; a family is an entry of the table in
// architecture.cc.  The defaults below are llama's (Touvron et al., arXiv
// 2302.13971), and an entry says where its family differs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace linchpin {

enum class NormKind {
  kRms,         // x / rms(x) * gain (Zhang and Sennrich, arXiv 1910.07467)
  kRmsPlusOne,  // the gain is stored less one (gemma)
  kLayer,       // with gain and bias (Ba et al., arXiv 1607.06450)
  kLayerPlain,  // without either (olmo)
};

// How the rows of the query, key and value projections are stored.
enum class QkvLayout {
  kSeparate,      // three tensors
  kConcatenated,  // one tensor: all queries, all keys, all values
  kGrouped,       // one tensor: per key-value head its queries, its key, its value
};

// What the norm of queries and keys runs over, before they are rotated.
enum class QkNorm { kNone, kHead, kProjection };

enum class PositionKind { kRotary, kLearned, kAlibi };

// Which layers see a window of the last tokens only, where config.json does not
// list them in `layer_types`.
enum class WindowRule {
  kNone,
  kEveryLayer,
  kWhereUsed,    // if `use_sliding_window`, in the layers from `max_window_layers` on
  kUntilUsed,    // if `use_sliding_window`, in every other of the layers before it (qwen2_moe)
  kAlternating,  // the first of every two layers
  kPattern,      // all but each `sliding_window_pattern`th
};

// Which projections have a bias.
struct Biases {
  bool qkv = false;
  bool attention_output = false;
  bool mlp = false;
};

// Names are below the model's or the layer's prefix and without ".weight"; an
// empty one means that the family has no such tensor.
struct Architecture {
  std::string_view family = "";  // config.json's model_type

  NormKind norm = NormKind::kRms;
  bool parallel = false;  // attention and MLP read the same input and are added together
  std::string_view attention_input_norm = "input_layernorm";
  std::string_view attention_output_norm = "";
  std::string_view mlp_input_norm = "post_attention_layernorm";  // parallel: empty = attention's
  std::string_view mlp_output_norm = "";

  QkvLayout qkv_layout = QkvLayout::kSeparate;
  std::string_view query = "self_attn.q_proj";
  std::string_view key = "self_attn.k_proj";
  std::string_view value = "self_attn.v_proj";
  std::string_view qkv = "";
  std::string_view attention_output = "self_attn.o_proj";
  QkNorm qk_norm = QkNorm::kNone;
  std::string_view query_norm = "self_attn.q_norm";
  std::string_view key_norm = "self_attn.k_norm";
  PositionKind positions = PositionKind::kRotary;
  double rope_theta = 10000;
  int position_offset = 0;  // of learned positions: rows before that of position 0
  WindowRule windows = WindowRule::kNone;

  std::string_view intermediate_key = "intermediate_size";  // config.json's name for its width
  std::string_view gate = "mlp.gate_proj";                  // empty: down(activation(up(x)))
  std::string_view up = "mlp.up_proj";
  std::string_view gate_up = "";  // fused: the gate's rows, then up's
  std::string_view down = "mlp.down_proj";
  bool transposed = false;  // weights are stored [in, out]

  // Experts, where the config has any; {} is the expert's number.
  std::string_view router = "";
  std::string_view expert_gate = "";
  std::string_view expert_up = "";
  std::string_view expert_down = "";
  std::string_view shared_gate = "";  // of an expert that every token goes through
  std::string_view shared_up = "";
  std::string_view shared_down = "";
  std::string_view shared_router = "";  // its sigmoid weighs the shared expert

  std::string_view base = "model.";    // in front of all but the output projection
  std::string_view layers = "layers";  // then the layer's number
  std::string_view embedding = "embed_tokens";
  std::string_view learned_positions = "";
  std::string_view final_norm = "norm";
  std::string_view output = "lm_head";
  bool output_bias = false;
  bool scale_embedding = false;  // by sqrt(hidden)

  Biases biases = {};
  std::string_view qkv_bias_key = "attention_bias";  // config.json's say in the matter
  std::string_view attention_output_bias_key = "attention_bias";
  std::string_view mlp_bias_key = "";
  // What config.json means by leaving a key out, as a JSON object.
  std::string_view defaults = "{}";
};

// The families in the order of the table.
const std::vector<Architecture>& Architectures();

// Their names.
const std::vector<std::string>& SupportedFamilies();

}  // namespace linchpin
