// `config.json` as numbers: the hyperparameters of a model.
//
// Reads both dialects: before transformers 5 (`rope_theta`, `rope_scaling`,
// `torch_dtype`) and since (`rope_parameters`, `dtype`).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace linchpin {

// Llama 3's frequency scaling (rope_type "llama3"); frequencies whose
// wavelength exceeds original_max_position / low_freq_factor are divided by
// `factor`, those below original_max_position / high_freq_factor are kept, and
// between the two they are blended.
struct Llama3RopeScaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_max_position = 8192;
};

struct ModelConfig {
  std::string family;  // config.json's model_type, e.g. "llama"
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;  // 0 if not given
  double norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> llama3_rope;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied_embeddings = false;
  std::optional<int64_t> bos;

  // CONFIG_INVALID naming the key for a missing, mistyped or impossible value;
  // FAMILY_UNSUPPORTED with the list of families; FEATURE_UNSUPPORTED for a
  // rope type, activation or quantized source that is not built.
  static absl::StatusOr<ModelConfig> Parse(std::string_view file, std::string_view json);
};

// The families that the forward pass runs.
const std::vector<std::string>& SupportedFamilies();

}  // namespace linchpin
