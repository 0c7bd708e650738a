// What the `quantization_config` of a compressed-tensors model says beside its
// tensors: what consumers round while they run it.
//
// Keys as compressed-tensors 0.20 reads them (config_groups, targets,
// input_activations).  Thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "format/json.h"

namespace linchpin {

// What becomes of a token's activations before a linear layer: codes of 8 bits,
// one scale for the token, made when it comes.
enum class TokenRounding { kNone, kInt8, kFloat8 };

class CompressionConfig {
 public:
  // Of a parsed config.json, `file` for errors.  Where it has no such object, or
  // one in a format whose weights are not read here, or float-quantized without
  // groups, nothing is compressed.
  // CONFIG_INVALID for a key of the wrong type, FEATURE_UNSUPPORTED for layers that
  // are named otherwise than by class or by the end of their names, and for
  // rounded outputs and caches.
  static absl::StatusOr<CompressionConfig> Parse(std::string_view file, const Json& config);

  // Pack-quantized, int-quantized or float-quantized.
  bool compressed() const { return !groups_.empty(); }
  // Of a module whose weight is stored as codes: "model.layers.0.mlp.up_proj".
  TokenRounding RoundingOf(std::string_view module) const;
  // What is rounded, but not here; empty: nothing.
  const std::string& note() const { return note_; }

 private:
  struct Group {
    std::vector<std::string> names;  // last parts of its modules' names; empty: all the others
    TokenRounding rounding = TokenRounding::kNone;
  };

  std::vector<Group> groups_;
  std::string note_;
};

}  // namespace linchpin
