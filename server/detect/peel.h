// Finds the set of super weights: find, zero, run again, until no super
// activation survives.
//
// The first may hide others: a sibling of smaller share, or a weight of a later
// layer that the first keeps saturated.  Zeroing happens in an overlay of the
// run; the checkpoint is never touched.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"

namespace linchpin {

// A detection without proof: super weights by layer, row and column, the super
// activations of the untouched model, and its layer records.  The lanes `beside`
// the prompt, from the embedding on, go through the untouched model with it: one
// reading of the weights serves both.
absl::StatusOr<Detection> Peel(const Checkpoint& checkpoint, const ForwardPass& pass,
                               absl::Span<const int32_t> prompt, const DetectOptions& options,
                               const RunContext& context, absl::Span<const Lane> beside = {});

// The same of several prompts, each on its own; they share the reading of the
// untouched model.  One detection per prompt, in their order.
absl::StatusOr<std::vector<Detection>> PeelEach(const Checkpoint& checkpoint,
                                                const ForwardPass& pass,
                                                absl::Span<const std::vector<int32_t>> prompts,
                                                const DetectOptions& options,
                                                const RunContext& context,
                                                absl::Span<const Lane> beside = {});

}  // namespace linchpin
