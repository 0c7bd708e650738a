#include "detect/peel.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "base/status.h"
#include "detect/experts.h"
#include "detect/foresight.h"
#include "detect/round.h"
#include "detect/super_activations.h"
#include "detect/trace.h"

namespace linchpin {
namespace {

// The peel of one prompt.  Stays where it is: its parts refer to each other.
struct Peeling {
  const Checkpoint& checkpoint;
  const ForwardPass& pass;
  const DetectOptions& options;
  Trace trace;
  TraceRun run{&trace, {}, {}};  // of the untouched model
  Magnitudes magnitudes{checkpoint, options};
  Foresight foresight{checkpoint, pass, options, magnitudes};
  Bar bar{};
  std::vector<DownProjEdit> edits{};  // everything found so far, zeroed
  Detection detection{};
};

using Peelings = std::vector<std::unique_ptr<Peeling>>;

// Takes the weights of every super activation of the trace that are new.
// Returns the first layer that was changed, or -1.
absl::StatusOr<int> TakeRound(Peeling& peeling, int number, const RunContext& context) {
  const std::vector<DownProjEdit> before = peeling.edits;
  ASSIGN_OR_RETURN(Round round,
                   LookAt({peeling.checkpoint, peeling.pass, peeling.trace, before, peeling.bar,
                           peeling.options, peeling.magnitudes, context}));
  if (number == 0) peeling.detection.super_activations = std::move(round.activations);
  int first_changed = -1;
  for (SuperWeight& weight : round.weights) {
    weight.round = number;
    peeling.edits.push_back(Zeroing(weight));
    first_changed = first_changed < 0 ? weight.layer : std::min(first_changed, weight.layer);
    peeling.detection.super_weights.push_back(std::move(weight));
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
    ASSIGN_OR_RETURN(const int first_changed, TakeRound(peeling, round, context));
    if (first_changed < 0) break;
    if (peeling.foresight.Fulfils(peeling.edits, peeling.trace)) continue;
    RETURN_IF_ERROR(RunFrom(peeling.pass, first_changed, peeling.edits, context, peeling.trace));
  }
  std::vector<SuperWeight>& weights = detection.super_weights;
  std::sort(weights.begin(), weights.end(), [](const SuperWeight& a, const SuperWeight& b) {
    return std::tie(a.layer, a.expert, a.position.row, a.position.column) <
           std::tie(b.layer, b.expert, b.position.row, b.position.column);
  });
  detection.super_experts = FindSuperExperts(detection);
  return std::move(detection);
}

// The untouched model with all prompts, and what they foresee.
absl::Status RunUntouched(const ForwardPass& pass, absl::Span<const Lane> beside,
                          const RunContext& context, Peelings& peelings) {
  for (int layer = 0; layer < pass.layers(); ++layer) {
    RETURN_IF_ERROR(ReportLayer(pass, layer, context));
    std::vector<TraceRun*> runs;
    for (const auto& peeling : peelings) {
      runs.push_back(&peeling->run);
      if (TraceRun* second = peeling->foresight.run()) runs.push_back(second);
    }
    RETURN_IF_ERROR(RunLayer(pass, layer, runs, beside, context));
    for (const auto& peeling : peelings) {
      RETURN_IF_ERROR(peeling->foresight.Consider(peeling->run, layer, context));
    }
  }
  for (const auto& peeling : peelings) peeling->trace.last_hidden = std::move(peeling->run.hidden);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Detection>> PeelEach(const Checkpoint& checkpoint,
                                                const ForwardPass& pass,
                                                absl::Span<const std::vector<int32_t>> prompts,
                                                const DetectOptions& options,
                                                const RunContext& context,
                                                absl::Span<const Lane> beside) {
  Peelings peelings;
  for (const std::vector<int32_t>& prompt : prompts) {
    ASSIGN_OR_RETURN(Trace trace, StartTrace(pass, prompt));
    peelings.emplace_back(new Peeling{checkpoint, pass, options, std::move(trace)});
    peelings.back()->run.hidden = peelings.back()->trace.layers.front().hidden;
    peelings.back()->detection.prompt = prompt;
  }
  RETURN_IF_ERROR(RunUntouched(pass, beside, context, peelings));
  std::vector<Detection> detections;
  for (const auto& peeling : peelings) {
    ASSIGN_OR_RETURN(Detection detection, PeelTrace(*peeling, context));
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
