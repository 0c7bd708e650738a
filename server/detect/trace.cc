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
  for (int64_t i = 1; i < count; ++i) {
    if (std::fabs(matrix.data[i]) > std::fabs(matrix.data[at])) at = i;
  }
  return {at / matrix.columns, at % matrix.columns, matrix.data[at]};
}

std::vector<InputElement> LargestOf(absl::Span<const float> row) {
  std::vector<InputElement> elements;
  for (size_t i = 0; i < row.size(); ++i) elements.push_back({static_cast<int64_t>(i), row[i]});
  const size_t kept = std::min<size_t>(kKeptInputs, elements.size());
  std::partial_sort(elements.begin(), elements.begin() + static_cast<int64_t>(kept), elements.end(),
                    [](const InputElement& a, const InputElement& b) {
                      return std::pair(-std::fabs(a.value), a.channel) <
                             std::pair(-std::fabs(b.value), b.channel);
                    });
  // A copy, as a trace that kept the capacity would hold every input.
  return {elements.begin(), elements.begin() + static_cast<int64_t>(kept)};
}

Matrix Copy(MatrixView view) {
  return {{view.data, view.data + view.rows * view.columns}, view.rows, view.columns};
}

// The peak of rows that stand for `tokens`.
Peak PeakAt(absl::Span<const int64_t> tokens, MatrixView matrix) {
  Peak peak = PeakOf(matrix);
  peak.token = tokens[static_cast<size_t>(peak.token)];
  return peak;
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
    for (int64_t row = 0; row < view.input.rows; ++row) {
      down.top_inputs.push_back(LargestOf(view.input.Row(row)));
    }
    const DownProjRecord record{view.expert, PeakAt(view.tokens, view.input),
                                PeakAt(view.tokens, view.output)};
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
