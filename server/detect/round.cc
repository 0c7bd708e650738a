#include "detect/round.h"

#include <set>
#include <utility>

#include "base/status.h"
#include "detect/super_activations.h"

namespace linchpin {
namespace {

// Rows, by layer and channel, whose largest activation no single weight makes.
// What a weight of such a row makes at another token is chance.
using WholeRows = std::set<std::pair<int, int64_t>>;

// Decomposes one super activation at every layer that makes it, siblings
// included; its carrier is that of the onset.  The activations of a round come
// by falling height, and share `whole_rows`.
absl::StatusOr<std::vector<SuperWeight>> WeightsOf(const Scene& scene, WholeRows& whole_rows,
                                                   SuperActivation& activation) {
  std::vector<SuperWeight> weights;
  for (const int layer : LayersThatMake(scene.trace, scene.bar, activation, scene.options)) {
    ASSIGN_OR_RETURN(const Decomposition decomposition, Decompose(scene, activation, layer));
    if (layer == activation.onset_layer) {
      activation.carrier = decomposition.carrier;
      activation.norm_gain = decomposition.norm_gain;
    }
    const std::pair row(layer, activation.channel);
    if (decomposition.by_whole_row) whole_rows.insert(row);
    if (whole_rows.contains(row)) continue;
    for (const SuperWeight& weight : decomposition.weights) {
      weights.push_back(weight);
      ASSIGN_OR_RETURN(const std::vector<SuperWeight> siblings, Siblings(scene, weight));
      weights.insert(weights.end(), siblings.begin(), siblings.end());
    }
  }
  return weights;
}

// Large, but not huge: that counts where an outlier makes it.  In the column of a
// spiking input ordinary weights, too, make what is large.
bool IsOrdinary(const SuperActivation& activation, const std::vector<SuperWeight>& weights,
                const DetectOptions& options) {
  return weights.empty() && activation.over_median < options.peak_over_median;
}

}  // namespace

absl::StatusOr<Round> LookAt(const Scene& scene) {
  using Place = decltype(PlaceOf({}));
  std::set<Place> known;
  for (const DownProjEdit& edit : scene.edits) known.insert(PlaceOf(edit));
  WholeRows whole_rows;
  Round round;
  for (SuperActivation activation : FindSuperActivations(scene.trace, scene.bar, scene.options)) {
    ASSIGN_OR_RETURN(const std::vector<SuperWeight> weights,
                     WeightsOf(scene, whole_rows, activation));
    if (IsOrdinary(activation, weights, scene.options)) continue;
    round.activations.push_back(activation);
    for (const SuperWeight& weight : weights) {
      if (known.insert(PlaceOf(Zeroing(weight))).second) round.weights.push_back(weight);
    }
  }
  return round;
}

DownProjEdit Zeroing(const SuperWeight& weight) {
  return {weight.layer, weight.position.row, weight.position.column, 0.0F, weight.expert};
}

}  // namespace linchpin
