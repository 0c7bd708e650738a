#include "detect/peel.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "base/status.h"
#include "detect/decomposition.h"
#include "detect/experts.h"
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

// Takes the weights of every super activation of the trace that are new.
// Several activations may name one weight; the largest comes first and is its
// evidence.  Returns the first layer that was changed, or -1.
absl::StatusOr<int> TakeRound(Peeling& peeling, int round) {
  const std::vector<DownProjEdit> before = peeling.edits;
  const Scene scene{peeling.checkpoint, peeling.pass,   peeling.trace, before,
                    peeling.bar,        peeling.options};
  std::set<WeightPosition> known;
  for (const SuperWeight& weight : peeling.detection.super_weights) known.insert(weight.position);
  WholeRows whole_rows;
  int first_changed = -1;
  for (SuperActivation activation :
       FindSuperActivations(peeling.trace, peeling.bar, peeling.options)) {
    ASSIGN_OR_RETURN(const std::vector<SuperWeight> weights,
                     WeightsOf(scene, whole_rows, activation));
    if (IsOrdinary(activation, weights, peeling.options)) continue;
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

// Peels the model that `peeling.trace` holds untouched.
absl::StatusOr<Detection> PeelTrace(Peeling& peeling, const RunContext& context) {
  Detection& detection = peeling.detection;
  detection.options = peeling.options;
  peeling.bar = FreezeBar(peeling.trace);
  for (const LayerTrace& layer : peeling.trace.layers) detection.layers.push_back(layer.record);
  for (LayerRecord& layer : detection.layers) {
    NameUnreached(peeling.pass.Experts(layer.layer), layer);
  }
  for (int round = 0; round < peeling.options.max_rounds; ++round) {
    ASSIGN_OR_RETURN(const int first_changed, TakeRound(peeling, round));
    if (first_changed < 0) break;
    RETURN_IF_ERROR(RunTrace(peeling.pass, first_changed, peeling.edits, {}, context,
                             absl::MakeSpan(&peeling.trace, 1)));
  }
  std::vector<SuperWeight>& weights = detection.super_weights;
  std::sort(weights.begin(), weights.end(), [](const SuperWeight& a, const SuperWeight& b) {
    return std::tie(a.layer, a.expert, a.position.row, a.position.column) <
           std::tie(b.layer, b.expert, b.position.row, b.position.column);
  });
  detection.super_experts = FindSuperExperts(detection);
  return std::move(detection);
}

}  // namespace

absl::StatusOr<std::vector<Detection>> PeelEach(const Checkpoint& checkpoint,
                                                const ForwardPass& pass,
                                                absl::Span<const std::vector<int32_t>> prompts,
                                                const DetectOptions& options,
                                                const RunContext& context,
                                                absl::Span<const Lane> beside) {
  std::vector<Trace> traces;
  for (const std::vector<int32_t>& prompt : prompts) {
    ASSIGN_OR_RETURN(Trace trace, StartTrace(pass, prompt));
    traces.push_back(std::move(trace));
  }
  RETURN_IF_ERROR(RunTrace(pass, 0, {}, beside, context, absl::MakeSpan(traces)));
  std::vector<Detection> detections;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Peeling peeling{checkpoint, pass, options, std::move(traces[i]), {}, {}, {}};
    peeling.detection.prompt = prompts[i];
    ASSIGN_OR_RETURN(Detection detection, PeelTrace(peeling, context));
    detections.push_back(std::move(detection));
  }
  return detections;
}

absl::StatusOr<Detection> Peel(const Checkpoint& checkpoint, const ForwardPass& pass,
                               absl::Span<const int32_t> prompt, const DetectOptions& options,
                               const RunContext& context, absl::Span<const Lane> beside) {
  const std::vector<int32_t> ids(prompt.begin(), prompt.end());
  ASSIGN_OR_RETURN(std::vector<Detection> detections,
                   PeelEach(checkpoint, pass, {&ids, 1}, options, context, beside));
  return std::move(detections.front());
}

}  // namespace linchpin
