// How positions are rotated into queries and keys: config.json's rope keys, in
// both dialects, as numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/config_fields.h"

namespace linchpin {

// What is done to the frequencies theta^(-2i / dim) of rotary embeddings (Su et
// al., arXiv 2104.09864), by the names of transformers' rope types.
enum class RopeType {
  kDefault,
  kLinear,    // all divided by `factor`
  kDynamic,   // a larger theta for more than max_positions
  kLlama3,    // long waves slowed by `factor`, short ones kept
  kYarn,      // Peng et al., arXiv 2309.00071
  kLongRope,  // Ding et al., arXiv 2402.13753
};

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double partial = 1;  // the part of each head that is rotated
  double factor = 1;
  double low_freq_factor = 1;   // llama3
  double high_freq_factor = 4;  // llama3
  double beta_fast = 32;        // yarn: rotations at which scaling begins
  double beta_slow = 1;         // and at which it is whole
  bool truncate = true;         // yarn: those bounds are whole dimensions
  double attention_factor = 1;  // cosines and sines are multiplied by it
  int64_t original_max_position = 0;
  std::vector<double> short_factor;  // longrope: one divisor per frequency, within
  std::vector<double> long_factor;   // original_max_position and beyond it
};

// The rotation of the layers that attend to everything and of those that see a
// window; equal but where the config says otherwise.
struct RopeConfigs {
  RopeConfig full;
  RopeConfig windowed;
};

// CONFIG_INVALID for a value that is missing, mistyped or impossible,
// FEATURE_UNSUPPORTED for a rope type that is not built.  `theta` is the
// family's where none is given, `max_positions` the model's own, 0 if unknown.
absl::StatusOr<RopeConfigs> ParseRope(std::string_view file, const ConfigFields& fields,
                                      double theta, int64_t max_positions);

}  // namespace linchpin
