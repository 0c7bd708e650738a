// How much each input channel of each weight matters, from what went into it.
#pragma once

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

// The statistics of a weight, or null.
inline const InputStatistics* FindImportance(const Importance& importance,
                                             std::string_view weight) {
  const auto found = importance.find(weight);
  return found == importance.end() ? nullptr : found->second.get();
}

}  // namespace linchpin
