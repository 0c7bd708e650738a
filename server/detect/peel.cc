#include "detect/peel.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "base/status.h"
#include "detect/decomposition.h"
#include "detect/super_activations.h"
#include "detect/trace.h"

namespace linchpin {
namespace {

// The state of one peel.
struct Peeling {
  const Checkpoint& checkpoint;
  const ForwardPass& pass;
  const DetectOptions& options;
  Trace trace;
  Bar bar;
  std::vector<DownProjEdit> edits;  // everything found so far, zeroed
  Detection detection;
};

// Decomposes one super activation at every layer that makes it; its carrier is
// that of the onset.
absl::StatusOr<std::vector<SuperWeight>> WeightsOf(const Peeling& peeling,
                                                   absl::Span<const DownProjEdit> zeroed,
                                                   SuperActivation& activation) {
  std::vector<SuperWeight> weights;
  for (const int layer : LayersThatMake(peeling.trace, peeling.bar, activation, peeling.options)) {
    ASSIGN_OR_RETURN(const Decomposition decomposition,
                     Decompose(peeling.checkpoint, peeling.pass, peeling.trace, zeroed, activation,
                               layer, peeling.options));
    weights.insert(weights.end(), decomposition.weights.begin(), decomposition.weights.end());
    if (layer != activation.onset_layer) continue;
    activation.carrier = decomposition.carrier;
    activation.norm_gain = decomposition.norm_gain;
  }
  return weights;
}

// Takes the weights of every super activation of the trace that are new.
// Several activations may name one weight; the largest comes first and is its
// evidence.  Returns the first layer that was changed, or -1.
absl::StatusOr<int> TakeRound(Peeling& peeling, int round) {
  const std::vector<DownProjEdit> before = peeling.edits;
  std::set<WeightPosition> known;
  for (const SuperWeight& weight : peeling.detection.super_weights) known.insert(weight.position);
  int first_changed = -1;
  for (SuperActivation activation :
       FindSuperActivations(peeling.trace, peeling.bar, peeling.options)) {
    ASSIGN_OR_RETURN(const std::vector<SuperWeight> weights,
                     WeightsOf(peeling, before, activation));
    if (round == 0) peeling.detection.super_activations.push_back(activation);
    for (SuperWeight weight : weights) {
      if (!known.insert(weight.position).second) continue;
      weight.round = round;
      peeling.edits.push_back(
          {weight.layer, weight.position.row, weight.position.column, 0.0F, weight.expert});
      first_changed = first_changed < 0 ? weight.layer : std::min(first_changed, weight.layer);
      peeling.detection.super_weights.push_back(std::move(weight));
    }
  }
  return first_changed;
}

}  // namespace

absl::StatusOr<Detection> Peel(const Checkpoint& checkpoint, const ForwardPass& pass,
                               absl::Span<const int32_t> prompt, const DetectOptions& options,
                               const RunContext& context, absl::Span<const Lane> beside) {
  Peeling peeling{checkpoint, pass, options, {}, {}, {}, {}};
  peeling.detection.options = options;
  peeling.detection.prompt.assign(prompt.begin(), prompt.end());
  ASSIGN_OR_RETURN(peeling.trace, StartTrace(pass, prompt));
  RETURN_IF_ERROR(RunTrace(pass, 0, {}, beside, context, peeling.trace));
  peeling.bar = FreezeBar(peeling.trace);
  for (const LayerTrace& layer : peeling.trace.layers) {
    peeling.detection.layers.push_back(layer.record);
  }
  for (int round = 0; round < options.max_rounds; ++round) {
    ASSIGN_OR_RETURN(const int first_changed, TakeRound(peeling, round));
    if (first_changed < 0) break;
    RETURN_IF_ERROR(RunTrace(pass, first_changed, peeling.edits, {}, context, peeling.trace));
  }
  std::vector<SuperWeight>& weights = peeling.detection.super_weights;
  std::sort(weights.begin(), weights.end(), [](const SuperWeight& a, const SuperWeight& b) {
    return std::tie(a.layer, a.expert, a.position.row, a.position.column) <
           std::tie(b.layer, b.expert, b.position.row, b.position.column);
  });
  return std::move(peeling.detection);
}

}  // namespace linchpin
