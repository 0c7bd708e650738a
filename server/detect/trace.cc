#include "detect/trace.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "detect/median.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

Peak PeakOf(MatrixView matrix) {
  const int64_t count = matrix.rows * matrix.columns;
  int64_t at = 0;
  float largest = std::fabs(matrix.data[0]);
  for (int64_t i = 1; i < count; ++i) {
    if (std::fabs(matrix.data[i]) <= largest) continue;
    largest = std::fabs(matrix.data[i]);
    at = i;
  }
  return {at / matrix.columns, at % matrix.columns, matrix.data[at]};
}

// The kKeptInputs largest of a row, by falling magnitude, then by channel.
class LargestInputs {
 public:
  std::vector<InputElement> Of(absl::Span<const float> row) {
    kept_.clear();
    kept_.reserve(kKeptInputs + 1);
    for (size_t first = 0; first < row.size(); first += kTogether) {
      const absl::Span<const float> part = row.subspan(first, kTogether);
      if (IsFull() && !AnyAbove(part, std::fabs(kept_.back().value))) continue;
      for (size_t i = 0; i < part.size(); ++i) Offer({static_cast<int64_t>(first + i), part[i]});
    }
    return kept_;
  }

 private:
  static constexpr size_t kTogether = 32;  // few parts hold one of the largest

  static bool AnyAbove(absl::Span<const float> part, float bar) {
    int above = 0;
    for (const float value : part) above |= static_cast<int>(std::fabs(value) > bar);
    return above != 0;
  }
  bool IsFull() const { return kept_.size() == kKeptInputs; }
  void Offer(const InputElement& element) {
    const auto larger = [](const InputElement& a, const InputElement& b) {
      return std::fabs(a.value) > std::fabs(b.value);
    };
    const bool full = IsFull();
    if (full && !larger(element, kept_.back())) return;
    kept_.insert(std::upper_bound(kept_.begin(), kept_.end(), element, larger), element);
    if (full) kept_.pop_back();
  }

  std::vector<InputElement> kept_;
};

Matrix Copy(MatrixView view) {
  return {{view.data, view.data + view.rows * view.columns}, view.rows, view.columns};
}

// Of one down_proj, whose rows' largest inputs are known.
DownProjRecord RecordOf(const DownProjView& view,
                        const std::vector<std::vector<InputElement>>& largest) {
  DownProjRecord record{view.expert, {}, PeakOf(view.output)};
  record.output.token = view.tokens[static_cast<size_t>(record.output.token)];
  for (size_t row = 0; row < largest.size(); ++row) {
    const InputElement& first = largest[row].front();
    if (row > 0 && std::fabs(first.value) <= std::fabs(record.input.value)) continue;
    record.input = {view.tokens[row], first.channel, first.value};
  }
  return record;
}

void KeepLarger(const Peak& candidate, Peak& peak) {
  if (std::fabs(candidate.value) > std::fabs(peak.value)) peak = candidate;
}

// Fills one layer of a trace.
class LayerTap : public Tap {
 public:
  LayerTap(int layer, LayerTrace& trace) : trace_(trace) {
    trace_.down_projs.clear();
    trace_.record = {.layer = layer};
  }

  void OnDownProj(const DownProjView& view) override {
    DownProjTrace& down = trace_.down_projs.emplace_back();
    down.expert = view.expert;
    down.tokens.assign(view.tokens.begin(), view.tokens.end());
    down.weights.assign(view.weights.begin(), view.weights.end());
    down.output = Copy(view.output);
    LargestInputs largest;
    for (int64_t row = 0; row < view.input.rows; ++row) {
      down.top_inputs.push_back(largest.Of(view.input.Row(row)));
    }
    const DownProjRecord record = RecordOf(view, down.top_inputs);
    if (view.expert != kNoExpert) trace_.record.experts.push_back(record);
    KeepLarger(record.input, trace_.record.down_proj_input);
    KeepLarger(record.output, trace_.record.down_proj_output);
  }

  void OnMlp(int /*layer*/, MatrixView added) override { trace_.mlp_added = Copy(added); }

  void OnResidual(int /*layer*/, MatrixView hidden) override {
    trace_.record.residual = PeakOf(hidden);
    trace_.record.residual_median_abs = MedianAbs(hidden);
  }

 private:
  LayerTrace& trace_;
};

}  // namespace

absl::StatusOr<Trace> StartTrace(const ForwardPass& pass, absl::Span<const int32_t> token_ids) {
  Trace trace;
  trace.layers.resize(pass.layers());
  ASSIGN_OR_RETURN(trace.layers.front().hidden, pass.Embed(token_ids));
  return trace;
}

absl::Status RunLayer(const ForwardPass& pass, int layer, absl::Span<TraceRun* const> runs,
                      absl::Span<const Lane> beside, const RunContext& context) {
  std::vector<Lane> lanes(beside.begin(), beside.end());
  std::vector<LayerTap> taps;
  taps.reserve(runs.size());  // lanes point into it
  for (TraceRun* run : runs) {
    LayerTrace& trace = run->trace->layers[static_cast<size_t>(layer)];
    trace.hidden = run->hidden;
    lanes.push_back({&run->hidden, run->edits, &taps.emplace_back(layer, trace)});
  }
  return pass.RunLayer(layer, lanes, context);
}

absl::Status ReportLayer(const ForwardPass& pass, int layer, const RunContext& context) {
  RETURN_IF_ERROR(context.Check());
  context.Report({Stage::kForward, fmt::format("layer {}", layer),
                  static_cast<uint64_t>(layer) * pass.layer_bytes(),
                  static_cast<uint64_t>(pass.layers()) * pass.layer_bytes()});
  return absl::OkStatus();
}

absl::Status RunFrom(const ForwardPass& pass, int first, absl::Span<const DownProjEdit> edits,
                     const RunContext& context, Trace& trace) {
  TraceRun run{&trace, edits, trace.layers[static_cast<size_t>(first)].hidden};
  for (int layer = first; layer < pass.layers(); ++layer) {
    RETURN_IF_ERROR(ReportLayer(pass, layer, context));
    RETURN_IF_ERROR(RunLayer(pass, layer, {&run}, {}, context));
  }
  trace.last_hidden = std::move(run.hidden);
  return absl::OkStatus();
}

}  // namespace linchpin
