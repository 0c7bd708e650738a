// `config.json` as numbers: what a model is made of and how large it is.
//
// Reads both dialects: before transformers 5 (`rope_theta`, `rope_scaling`,
// `torch_dtype`) and since (`rope_parameters`, `layer_types`, `dtype`); and the
// text model of a multimodal one (`text_config`).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/architecture.h"
#include "checkpoint/rope_config.h"

namespace linchpin {

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu };

// Mixture of experts; count 0: none.
struct ExpertConfig {
  int64_t count = 0;
  int64_t per_token = 0;
  bool renormalize = false;         // the chosen experts' weights add up to 1
  int64_t intermediate = 0;         // width of an expert
  int64_t shared_intermediate = 0;  // of the one that every token goes through; 0: none
};

struct ModelConfig {
  std::string family;  // config.json's model_type, e.g. "llama"
  // The family's, as this config makes it.
  Architecture architecture;
  Biases biases;
  Activation activation = Activation::kSilu;
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;  // 0 if not given
  double norm_eps = 1e-6;
  RopeConfigs rope;
  std::vector<int64_t> windows;  // per layer: how many tokens it sees; 0: all before
  double attention_scale = 1;    // of query times key
  double attention_softcap = 0;  // s tanh(x / s) of the scores; 0: none
  double output_softcap = 0;     // the same of the logits
  double clip_qkv = 0;           // queries, keys and values within +- this; 0: none
  ExpertConfig experts;
  std::vector<bool> sparse;             // per layer: it has experts in place of an MLP
  std::optional<bool> tied_embeddings;  // nullopt: tied if the output projection is not stored
  std::optional<int64_t> bos;

  // CONFIG_INVALID naming the key for a missing, mistyped or impossible value;
  // FAMILY_UNSUPPORTED with the list of families; FEATURE_UNSUPPORTED for a
  // rope type, activation or quantized source that is not built.
  static absl::StatusOr<ModelConfig> Parse(std::string_view file, std::string_view json);
};

}  // namespace linchpin
