// How much each input channel of each weight matters, from what went into it.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace linchpin {

// Of one or more weights that share their input.
struct InputStatistics {
  // E[x_i^2] over the tokens, per input channel; llama.cpp calls it an importance matrix.
  std::vector<float> mean_squares;
  int64_t tokens = 0;
};

// By the name of the weight tensor.  A weight that no token reached, as of an
// expert that none was routed to, has no entry.
using Importance = std::map<std::string, std::shared_ptr<const InputStatistics>, std::less<>>;

// How much an error of a weight counts, per input channel: the mean square to the
// power of 1.25.  Measured to be better than the mean square itself, which is
// exact only where the channels vary independently (docs/adr/0018).
inline std::vector<float> ErrorWeights(const InputStatistics& statistics) {
  std::vector<float> weights;
  weights.reserve(statistics.mean_squares.size());
  // Square roots are exact to the last bit everywhere; a power is not.
  for (const float x : statistics.mean_squares) weights.push_back(x * std::sqrt(std::sqrt(x)));
  return weights;
}

// The statistics of a weight, or null.
inline const InputStatistics* FindImportance(const Importance& importance,
                                             std::string_view weight) {
  const auto found = importance.find(weight);
  return found == importance.end() ? nullptr : found->second.get();
}

}  // namespace linchpin
