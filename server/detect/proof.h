// The causal proof: what the model loses when its super weights are changed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/arms.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"

namespace linchpin {

// What to prove on.
struct ProofTokens {
  std::vector<TokenWindow> windows;
  TokenOrigin origin = TokenOrigin::kGiven;
  std::string no_text_because;  // as of a Proof
};

// Proves `detection` on `tokens` and sets classes and verdict.  Level `joint`:
// each weight zeroed alone, all together, and a null of others as large.  Level
// `full` besides: all but one zeroed, and each, and all, at the mean of their
// row.  All arms of both share one reading of the weights.  A detection that
// found nothing gets its baseline and the verdict; kNone does nothing.
absl::Status Prove(const Checkpoint& checkpoint, const ForwardPass& pass, const ProofTokens& tokens,
                   ProofLevel level, const RunContext& context, Detection& detection);

}  // namespace linchpin
