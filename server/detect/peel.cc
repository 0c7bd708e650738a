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

// Decomposes every super activation of the trace and takes the weights that are
// new.  Several activations may name one weight; the largest comes first and is
// its evidence.  Returns the first layer that was changed, or -1.
absl::StatusOr<int> TakeRound(Peeling& peeling, int round) {
  const std::vector<DownProjEdit> before = peeling.edits;
  std::set<WeightPosition> known;
  for (const SuperWeight& weight : peeling.detection.super_weights) known.insert(weight.position);
  int first_changed = -1;
  for (SuperActivation activation :
       FindSuperActivations(peeling.trace, peeling.bar, peeling.options)) {
    ASSIGN_OR_RETURN(
        const Decomposition decomposition,
        Decompose(peeling.checkpoint, peeling.trace, before, activation, peeling.options));
    activation.carrier = decomposition.carrier;
    if (round == 0) peeling.detection.super_activations.push_back(activation);
    for (SuperWeight weight : decomposition.weights) {
      if (!known.insert(weight.position).second) continue;
      weight.round = round;
      peeling.edits.push_back({weight.layer, weight.position.row, weight.position.column, 0.0F});
      first_changed = first_changed < 0 ? weight.layer : std::min(first_changed, weight.layer);
      peeling.detection.super_weights.push_back(std::move(weight));
    }
  }
  return first_changed;
}

}  // namespace

absl::StatusOr<Detection> Peel(const Checkpoint& checkpoint, const ForwardPass& pass,
                               absl::Span<const int32_t> prompt, const DetectOptions& options,
                               const RunContext& context) {
  Peeling peeling{checkpoint, pass, options, {}, {}, {}, {}};
  peeling.detection.options = options;
  peeling.detection.prompt.assign(prompt.begin(), prompt.end());
  ASSIGN_OR_RETURN(peeling.trace, StartTrace(pass, prompt));
  RETURN_IF_ERROR(RunTrace(pass, 0, {}, context, peeling.trace));
  peeling.bar = FreezeBar(peeling.trace);
  for (const LayerTrace& layer : peeling.trace.layers) {
    peeling.detection.layers.push_back(layer.record);
  }
  for (int round = 0; round < options.max_rounds; ++round) {
    ASSIGN_OR_RETURN(const int first_changed, TakeRound(peeling, round));
    if (first_changed < 0) break;
    RETURN_IF_ERROR(RunTrace(pass, first_changed, peeling.edits, context, peeling.trace));
  }
  std::vector<SuperWeight>& weights = peeling.detection.super_weights;
  std::sort(weights.begin(), weights.end(), [](const SuperWeight& a, const SuperWeight& b) {
    return std::tie(a.layer, a.position.row, a.position.column) <
           std::tie(b.layer, b.position.row, b.position.column);
  });
  return std::move(peeling.detection);
}

}  // namespace linchpin
