// The causal proof: what the model loses when its super weights are zeroed.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"

namespace linchpin {

using TokenWindow = std::vector<int32_t>;

// Losses in nats of every predicted token, per arm; arm 0 is the untouched
// model.  All arms and windows share one reading of the weights: an arm leaves
// the untouched model's hidden state at its first edited layer.
absl::StatusOr<std::vector<std::vector<float>>> MeasureArms(
    const ForwardPass& pass, const std::vector<TokenWindow>& windows,
    const std::vector<std::vector<DownProjEdit>>& arms, const RunContext& context);

// Proves `detection` at level `joint` (each alone, all together, the null) on
// `windows` and sets classes and verdict.  A detection that found nothing gets
// its baseline and the verdict.
absl::Status Prove(const Checkpoint& checkpoint, const ForwardPass& pass,
                   const std::vector<TokenWindow>& windows, const RunContext& context,
                   Detection& detection);

// Classes and verdict from the proof's ratios alone, by the rules of `detection.options`.
void Judge(Detection& detection);

}  // namespace linchpin
