// Finds the huge values that a layer adds to the residual stream and that stay.
#pragma once

#include <vector>

#include "detect/detection.h"
#include "detect/trace.h"

namespace linchpin {

// What counts as huge, taken from the untouched model and frozen: a peel is
// judged against the model that it peels.
struct Bar {
  std::vector<float> medians;        // per layer: median |h| of the residual stream after it
  std::vector<float> added_medians;  // and of what its MLP adds
  float largest = 0;                 // largest |h| after any layer but the last
};

Bar FreezeBar(const Trace& trace);

// All (token, channel) whose residual stream passes the bar after some layer
// and stays: on `keep_layers` of the later layers it keeps `keep_fraction` of
// that height with its sign, and there are enough later layers to tell.  The
// highest such layer gives the peak, so that a spike of the last layers on the
// same channel does not hide what was there before; the run of layers around it
// gives the onset.  The last `left_out` hidden states are left out, because the
// last layers spike on their own; in a model of two layers the last is the only
// evidence and counts.  By falling |peak|; carrier not decided.
std::vector<SuperActivation> FindSuperActivations(const Trace& trace, const Bar& bar,
                                                  const DetectOptions& options);

// The part of the layers after `layer`, the last left out, on which (token,
// channel) keeps `fraction` of what it is after that layer; 1 where none follows.
float PersistenceOf(const Trace& trace, int layer, int64_t token, int64_t channel, float fraction);

// The layers whose MLP makes an activation what it stays: its onset first, then
// those that change it by `min_change` of its peak, up or down, and leave at least
// as much, to stay.  Weights of later layers may work only where an earlier one has made
// the channel large, so that zeroing the first would hide them.
std::vector<int> LayersThatMake(const Trace& trace, const Bar& bar,
                                const SuperActivation& activation, const DetectOptions& options);

}  // namespace linchpin
