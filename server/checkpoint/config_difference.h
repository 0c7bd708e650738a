// Whether two configurations, perhaps in different words, compute the same.
#pragma once

#include <optional>
#include <string>

#include "checkpoint/model_config.h"

namespace linchpin {

struct ConfigDifference {
  std::string setting;  // in words
  double mine = 0;
  double theirs = 0;
};

// The first setting of the forward pass in which they differ by more than float32's
// rounding; rotary frequencies as numbers, whatever rule they come from.  Not
// compared: which of the layouts that are the same by name they are of, the
// largest position and the beginning of a text.
std::optional<ConfigDifference> FirstDifference(const ModelConfig& mine, const ModelConfig& theirs);

}  // namespace linchpin
