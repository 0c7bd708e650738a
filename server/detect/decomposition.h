// Which weights make a super activation: the products of its onset layer.
//
// The down_proj output at (token, row) is a sum of products
// c_k = X[token, k] W[row, k]; a super weight is one that a few products
// dominate, and that is an outlier of its own matrix: an ordinary weight in the
// column of a spiking input also makes large products, and means nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "detect/trace.h"

namespace linchpin {

struct Decomposition {
  Carrier carrier = Carrier::kMany;
  float norm_gain = 1;
  std::vector<SuperWeight> weights;  // those that pass every rule, by falling share
};

// Decomposes what `layer` adds to `activation`.  `edits` are the weights zeroed in the
// run that `trace` holds.
absl::StatusOr<Decomposition> Decompose(const Checkpoint& checkpoint, const ForwardPass& pass,
                                        const Trace& trace, absl::Span<const DownProjEdit> edits,
                                        const SuperActivation& activation, int layer,
                                        const DetectOptions& options);

}  // namespace linchpin
