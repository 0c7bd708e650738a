#include "detect/trace.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
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

float MedianAbs(MatrixView matrix) {
  std::vector<float> values(matrix.data, matrix.data + matrix.rows * matrix.columns);
  for (float& value : values) value = std::fabs(value);
  // The lower of the two middle elements, as torch.median takes it.
  const auto middle = values.begin() + (static_cast<int64_t>(values.size()) - 1) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
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
  elements.resize(kept);
  return elements;
}

Matrix Copy(MatrixView view) {
  return {{view.data, view.data + view.rows * view.columns}, view.rows, view.columns};
}

// Fills one layer of a trace.
class LayerTap : public Tap {
 public:
  explicit LayerTap(LayerTrace& trace) : trace_(trace) {}

  void OnDownProj(int layer, MatrixView input, MatrixView output) override {
    trace_.record.layer = layer;
    trace_.record.down_proj_input = PeakOf(input);
    trace_.record.down_proj_output = PeakOf(output);
    trace_.down_output = Copy(output);
    trace_.top_inputs.clear();
    for (int64_t token = 0; token < input.rows; ++token) {
      trace_.top_inputs.push_back(LargestOf(input.Row(token)));
    }
  }

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

absl::Status RunTrace(const ForwardPass& pass, int first, absl::Span<const DownProjEdit> edits,
                      const RunContext& context, Trace& trace) {
  Matrix hidden = trace.layers[first].hidden;
  Layer layer;
  for (int i = first; i < pass.layers(); ++i) {
    RETURN_IF_ERROR(context.Check());
    context.Report({Stage::kForward, fmt::format("layer {}", i),
                    static_cast<uint64_t>(i) * pass.layer_bytes(),
                    static_cast<uint64_t>(pass.layers()) * pass.layer_bytes()});
    RETURN_IF_ERROR(pass.LoadLayer(i, context, layer));
    trace.layers[i].hidden = hidden;
    LayerTap tap(trace.layers[i]);
    RETURN_IF_ERROR(layer.Run(edits, &tap, hidden));
  }
  trace.last_hidden = std::move(hidden);
  return absl::OkStatus();
}

}  // namespace linchpin
