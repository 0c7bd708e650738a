// The same tokens through a model and through changed copies of it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "forward/forward_pass.h"

namespace linchpin {

using TokenWindow = std::vector<int32_t>;

// Of every predicted token of every window, in order; nats.
struct ArmScores {
  std::vector<float> losses;  // cross entropy
  std::vector<float>
      divergences;  // Kullback-Leibler, of the arm from the first; of the first: empty
};

// One result per arm, which is a set of edits.  The first arm is what the others are
// measured against: let it have no edits.  All arms and windows share one
// reading of the weights: an arm leaves the untouched model's hidden state at
// its first edited layer.
absl::StatusOr<std::vector<ArmScores>> MeasureArms(
    const ForwardPass& pass, const std::vector<TokenWindow>& windows,
    const std::vector<std::vector<DownProjEdit>>& arms, const RunContext& context);

}  // namespace linchpin
