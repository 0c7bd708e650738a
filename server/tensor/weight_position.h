// Where one scalar of a model stands, and what is to be put there.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace linchpin {

// `row` is the output channel and `column` the input channel, whatever order
// the file stores them in.
struct WeightPosition {
  std::string tensor;  // e.g. "model.layers.11.mlp.down_proj.weight"
  int64_t row = 0;
  int64_t column = 0;

  // NOLINTNEXTLINE(modernize-use-nullptr): mistakes what the compiler makes of it
  friend auto operator<=>(const WeightPosition&, const WeightPosition&) = default;
};

// A super weight as quantize/ and artifact/ see it: a place and the value that
// must survive there.
struct PinnedWeight {
  WeightPosition position;
  float value = 0;

  friend bool operator==(const PinnedWeight&, const PinnedWeight&) = default;
};

}  // namespace linchpin
