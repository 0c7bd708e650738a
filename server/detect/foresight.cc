#include "detect/foresight.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "detect/round.h"

namespace linchpin {
namespace {

// A model that spikes in many layers is not asked again and again.
constexpr int kMostGuesses = 4;
// Layers that must be left, or there is nothing to win.
constexpr int kLayersLeft = 2;

std::vector<DownProjEdit> Sorted(absl::Span<const DownProjEdit> edits) {
  std::vector<DownProjEdit> sorted(edits.begin(), edits.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const DownProjEdit& a, const DownProjEdit& b) { return PlaceOf(a) < PlaceOf(b); });
  return sorted;
}

bool Same(const DownProjEdit& a, const DownProjEdit& b) { return PlaceOf(a) == PlaceOf(b); }

// The first layer in which two sorted lists differ; -1 where they do not.
int FirstDifference(const std::vector<DownProjEdit>& a, const std::vector<DownProjEdit>& b) {
  const auto [left, right] = std::mismatch(a.begin(), a.end(), b.begin(), b.end(), Same);
  if (left == a.end() && right == b.end()) return -1;
  if (left == a.end()) return right->layer;
  if (right == b.end()) return left->layer;
  return std::min(left->layer, right->layer);
}

}  // namespace

absl::Status Foresight::Consider(TraceRun& untouched, int layer, const RunContext& context) {
  const int spike = layer - options_.left_out - 1;  // it has stood for the layers that count
  if (spike < 0 || layer + kLayersLeft >= pass_.layers() || guesses_ == kMostGuesses ||
      untouched.hidden.rows > kMostTokens) {
    return absl::OkStatus();
  }
  const LayerRecord& record = untouched.trace->layers[static_cast<size_t>(spike)].record;
  if (std::fabs(record.down_proj_output.value) <
      options_.made_peak_over_median * record.residual_median_abs) {
    return absl::OkStatus();
  }
  ++guesses_;
  ASSIGN_OR_RETURN(std::vector<DownProjEdit> guess, Guess(untouched, layer, context));
  const int changed = FirstDifference(edits_, guess);
  if (changed < 0) return absl::OkStatus();
  edits_ = std::move(guess);
  if (edits_.empty()) {
    run_.reset();
    return absl::OkStatus();
  }
  return CatchUp(untouched, changed, layer, context);
}

// The trace so far stands for the whole of a smaller model.
absl::StatusOr<std::vector<DownProjEdit>> Foresight::Guess(TraceRun& untouched, int layer,
                                                           const RunContext& context) {
  const auto done = static_cast<std::ptrdiff_t>(layer) + 1;
  std::vector<LayerTrace>& layers = untouched.trace->layers;
  Trace so_far;
  so_far.layers.assign(std::make_move_iterator(layers.begin()),
                       std::make_move_iterator(layers.begin() + done));
  so_far.last_hidden = untouched.hidden;
  const Bar bar = FreezeBar(so_far);
  const absl::StatusOr<Round> round =
      LookAt({checkpoint_, pass_, so_far, {}, bar, options_, magnitudes_, context});
  std::move(so_far.layers.begin(), so_far.layers.end(), layers.begin());
  RETURN_IF_ERROR(round.status());
  std::vector<DownProjEdit> edits;
  for (const SuperWeight& weight : round->weights) edits.push_back(Zeroing(weight));
  return Sorted(edits);
}

absl::Status Foresight::CatchUp(const TraceRun& untouched, int changed, int layer,
                                const RunContext& context) {
  const bool goes_on = run_ && changed > edits_.front().layer;
  const int first = goes_on ? changed : edits_.front().layer;
  trace_.layers.resize(static_cast<size_t>(pass_.layers()));
  const Trace& from = goes_on ? trace_ : *untouched.trace;
  run_ = TraceRun{&trace_, edits_, from.layers[static_cast<size_t>(first)].hidden};
  for (int i = first; i <= layer; ++i) RETURN_IF_ERROR(RunLayer(pass_, i, {&*run_}, {}, context));
  return absl::OkStatus();
}

bool Foresight::Fulfils(absl::Span<const DownProjEdit> edits, Trace& trace) {
  if (!run_ || FirstDifference(edits_, Sorted(edits)) >= 0) return false;
  const auto first = static_cast<std::ptrdiff_t>(edits_.front().layer);
  std::move(trace_.layers.begin() + first, trace_.layers.end(), trace.layers.begin() + first);
  trace.last_hidden = std::move(run_->hidden);
  run_.reset();
  return true;
}

}  // namespace linchpin
