// Which weights make a super activation: the products of the layers that make it.
//
// The down_proj output at (token, row) is a sum of products
// c_k = X[token, k] W[row, k]; a super weight is one that a few products
// dominate, and that is an outlier of its own matrix and column: an ordinary
// weight in the column of a spiking input also makes large products, and means
// nothing.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "detect/magnitude.h"
#include "detect/super_activations.h"
#include "detect/trace.h"

namespace linchpin {

// A run of the model and what to judge it by.
struct Scene {
  const Checkpoint& checkpoint;
  const ForwardPass& pass;
  const Trace& trace;
  absl::Span<const DownProjEdit> edits;  // in force in the trace
  const Bar& bar;
  const DetectOptions& options;
  Magnitudes& magnitudes;  // of the checkpoint
  const RunContext& context;
};

struct Decomposition {
  Carrier carrier = Carrier::kMany;
  float norm_gain = 1;
  std::vector<SuperWeight> weights;  // those that pass every rule, by falling share
  bool by_whole_row = false;         // none: all of the row, or its bias, makes the activation
};

// Decomposes what `layer` adds to `activation`.
absl::StatusOr<Decomposition> Decompose(const Scene& scene, const SuperActivation& activation,
                                        int layer);

// The siblings of a super weight: weights of its column that pass the same
// rules at its token, and make an output there that is as huge as its own,
// whether or not a later layer takes it back.  One neuron makes
// them all (Llama-3-8B has three in one column).
absl::StatusOr<std::vector<SuperWeight>> Siblings(const Scene& scene, const SuperWeight& weight);

}  // namespace linchpin
