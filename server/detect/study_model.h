// Measures what a study of a model's super weights shows (detect/study.h).
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/arms.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"

namespace linchpin {

// Studies the super weights of `detection` on its own prompt and on `windows`,
// and puts the result there.  Reads the weights three times, once per batch of
// windows (detect/arms.h) from the second on.
absl::Status StudyModel(const Checkpoint& checkpoint, const ForwardPass& pass,
                        absl::Span<const TokenWindow> windows, const RunContext& context,
                        Detection& detection);

}  // namespace linchpin
