// One run of a prompt through the model, kept as far as the rules need it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"
#include "tensor/matrix.h"

namespace linchpin {

// One large element of a down_proj input row.
struct InputElement {
  int64_t channel = 0;
  float value = 0;
};

// What passed one down_proj: the layer's, or that of an expert.
struct DownProjTrace {
  int expert = kNoExpert;
  std::vector<int64_t> tokens;                        // of each row, ascending
  std::vector<float> weights;                         // how much of each row the layer adds
  Matrix output;                                      // [tokens, hidden], before any norm
  std::vector<std::vector<InputElement>> top_inputs;  // per row, by falling |value|
};

struct LayerTrace {
  Matrix hidden;     // residual stream before the layer, [tokens, hidden]
  Matrix mlp_added;  // what the MLP and the norm after it add, [tokens, hidden]
  std::vector<DownProjTrace> down_projs;
  LayerRecord record;  // maxima and median
};

struct Trace {
  std::vector<LayerTrace> layers;
  Matrix last_hidden;  // after the last layer

  // The residual stream after a layer.
  const Matrix& After(size_t layer) const {
    return layer + 1 < layers.size() ? layers[layer + 1].hidden : last_hidden;
  }
};

// Inputs kept per token: more than any rule looks at.
inline constexpr int kKeptInputs = 32;

// Starts a trace: the embedded prompt stands before layer 0.
absl::StatusOr<Trace> StartTrace(const ForwardPass& pass, absl::Span<const int32_t> token_ids);

// A run of a prompt that has come to some layer.
struct TraceRun {
  Trace* trace;
  absl::Span<const DownProjEdit> edits;
  Matrix hidden;  // the residual stream before the next layer
};

// Takes every run, and the lanes `beside` them, through one layer, and replaces
// what their traces hold of it.  All share one reading of its weights.
absl::Status RunLayer(const ForwardPass& pass, int layer, absl::Span<TraceRun* const> runs,
                      absl::Span<const Lane> beside, const RunContext& context);

// Says how far a run of the whole model has come, and is told of a stop.
absl::Status ReportLayer(const ForwardPass& pass, int layer, const RunContext& context);

// Runs all layers from `first` on with `edits`, from the hidden state that the
// trace holds before `first`.
absl::Status RunFrom(const ForwardPass& pass, int first, absl::Span<const DownProjEdit> edits,
                     const RunContext& context, Trace& trace);

}  // namespace linchpin
