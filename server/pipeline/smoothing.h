// The factors by which SmoothQuant takes outliers from activations into weights
// (Xiao et al., arXiv 2211.10438).
#pragma once

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "forward/forward_pass.h"
#include "pipeline/planned_lens.h"
#include "pipeline/tokens.h"

namespace linchpin {

// Per input channel j of the layers that read the normed residual stream (queries,
// keys and values; gate and up): max|x_j|^alpha / max|w_j|^(1 - alpha), the
// weights' maximum over all that share the input and 1e-5 at least, and so the
// factor.  The others cannot be folded into a norm and have none; neither has an
// expert that no token of the calibration reaches, nor weights stored [in, out].
// The errors of Calibration::Start.
absl::StatusOr<ChannelScales> SmoothingScales(const Checkpoint& checkpoint, const ForwardPass& pass,
                                              const TokenSource& calibration, double alpha,
                                              const RunContext& context);

}  // namespace linchpin
