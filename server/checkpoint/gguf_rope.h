// The scaling of rotary frequencies, from GGUF's keys and tensors to the
// `rope_scaling` of a config.json.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/gguf_families.h"
#include "checkpoint/gguf_fields.h"
#include "checkpoint/rope_config.h"
#include "format/json.h"

namespace linchpin {

// What divides each frequency, as tensors of the file; empty where it has none.
struct GgufRopeFactors {
  std::vector<float> always;         // rope_freqs
  std::vector<float> long_context;   // rope_factors_long
  std::vector<float> short_context;  // rope_factors_short
};

struct GgufRotation {
  int64_t dimensions = 0;  // of a head that rotate; two share a frequency
  double theta = 10000;
  int64_t max_positions = 0;
};

// What divides each of the frequencies of `dimensions` rotated channels, within the
// positions that the model was first trained for and beyond them.  All 1 for the
// rules that GGUF knows by their parameters (linear, yarn, dynamic).
struct RopeDivisors {
  std::vector<float> within;
  std::vector<float> beyond;
};
RopeDivisors RopeDivisorsOf(const RopeConfig& rope, int64_t dimensions);

// Null where frequencies are not scaled.  Factors that Llama 3's rule gives are
// written as that rule, any others as "longrope", which lists them.
// FEATURE_UNSUPPORTED for a scaling that is not known, TENSOR_SHAPE_INVALID
// where there are not as many factors as frequencies.
absl::StatusOr<Json> GgufRopeScaling(const GgufFields& fields, const GgufFamily& family,
                                     const GgufRotation& rotation, const GgufRopeFactors& factors);

}  // namespace linchpin
