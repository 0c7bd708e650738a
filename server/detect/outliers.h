// The weights of largest magnitude of a model's down_projs.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"

namespace linchpin {

// As edits that zero them, super weights left out: one of every 200,000 weights
// of all down_projs, ten at least and 7,000 at most.  Yu et al. (arXiv
// 2411.07191, table 1) prune 7,000 of Llama-7B's 1.4 billion for comparison.
// By falling magnitude, then by place.  Reads every down_proj once.
absl::StatusOr<std::vector<DownProjEdit>> ZeroedOutliers(const Checkpoint& checkpoint,
                                                         const ForwardPass& pass,
                                                         const std::vector<SuperWeight>& spared,
                                                         const RunContext& context);

}  // namespace linchpin
