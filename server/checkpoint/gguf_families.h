// The model families that llama.cpp writes as GGUF, as data: what their tensors
// and their settings are called there, and in the Hugging Face model.
//
// Names and meanings as in llama.cpp (gguf-py/gguf/constants.py and
// convert_hf_to_gguf.py of https://github.com/ggml-org/llama.cpp).
#pragma once

#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace linchpin {

// What a tensor is, as far as that says how it was changed on its way into GGUF
// and whether it may have a bias.
enum class GgufTensorKind {
  kQuery,  // rows stored pair by pair in families of `paired_rows`
  kKey,    // the same over the key-value heads
  kValue,
  kAttentionOutput,
  kMlp,
  kTable,    // anything else that is as it was
  kNorm,     // the family's `norm_added` was added
  kRow,      // a matrix of one row, stored as a vector
  kExperts,  // one tensor per expert, stored as one of three dimensions
  kExpert,   // one tensor per expert, stored so; the name ends in its number
  kConfig,   // no tensor of the model: its values belong to the config
};

// Which projections have a bias.
enum class GgufBias {
  kNever,
  kQueryKeyValue,  // always
  kAttention,      // all four, where config.json says so
  kAll,            // these, and those of the MLP where it says so
};

struct GgufTensorName {
  std::string_view gguf;  // without "blk.N." and ".weight"
  std::string_view hf;    // without "model.layers.N." and ".weight"; {} is the expert
  GgufTensorKind kind = GgufTensorKind::kTable;
};

enum class GgufKeyKind {
  kInteger,
  kReal,
  kPattern,  // a whole number, or for every layer whether it has a window
};

struct GgufKey {
  std::string_view gguf;  // without "llama."
  std::string_view hf;
  GgufKeyKind kind = GgufKeyKind::kInteger;
  bool required = false;
};

// A key that changes what is computed, but for the two values.
struct GgufNeutralKey {
  std::string_view gguf;
  double value = 0;
  double other = 0;
};

struct GgufFamily {
  std::string_view architecture;  // general.architecture
  std::string_view applies_if;    // where this key is above 0; empty: always
  std::string_view model_type;    // config.json's
  std::vector<absl::Span<const GgufTensorName>> tensors;  // of a layer
  std::vector<absl::Span<const GgufKey>> keys;
  std::string_view constants;  // JSON: what is not stored and always so
  GgufBias bias = GgufBias::kNever;
  bool paired_rows = false;  // rotates neighbours; transformers rotates halves
  float norm_added = 0;
  // The attention of the model of so many layers is scaled by hidden / heads,
  // of all others by the head's size; below 0: the family has no such setting.
  int layers_scaled_by_hidden = -1;
  std::vector<GgufNeutralKey> neutral = {};  // besides GgufNeutralKeys
  // llama.cpp runs the windows that its layers see; in the other families every
  // token sees all before it, whatever the keys say.
  bool runs_windows = false;
};

// The tensors of no layer, with their whole names.
absl::Span<const GgufTensorName> GgufOuterTensors();

// What is not built in any of these families.
absl::Span<const GgufNeutralKey> GgufNeutralKeys();

// In the order in which the first that applies is taken.
const std::vector<GgufFamily>& GgufFamilies();

}  // namespace linchpin
