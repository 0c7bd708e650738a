// The causal proof: what the model loses when its super weights are changed.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/arms.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"

namespace linchpin {

// Proves `detection` on `windows` and sets classes and verdict.  Level `joint`:
// each weight zeroed alone, all together, and a null of others as large.  Level
// `full` besides: all but one zeroed, and each, and all, at the mean of their
// row.  All arms of both share one reading of the weights.  A detection that
// found nothing gets its baseline and the verdict; kNone does nothing.
absl::Status Prove(const Checkpoint& checkpoint, const ForwardPass& pass,
                   const std::vector<TokenWindow>& windows, ProofLevel level,
                   const RunContext& context, Detection& detection);

}  // namespace linchpin
