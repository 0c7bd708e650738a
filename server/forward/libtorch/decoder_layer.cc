// The computation behind a forward pass: norms, attention and MLP of one decoder
// block for several lanes side by side, and the door by which it is reached.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "forward/build_digest.h"
#include "forward/computation.h"
#include "forward/libtorch/attention.h"
#include "forward/libtorch/compute_threads.h"
#include "forward/libtorch/mlp.h"
#include "forward/libtorch/norm.h"
#include "forward/libtorch/output_head.h"
#include "forward/libtorch_module.h"

namespace linchpin {
namespace {

at::Tensor TensorOver(const Matrix& matrix) {
  return at::from_blob(const_cast<float*>(matrix.data.data()), {matrix.rows, matrix.columns},
                       at::kFloat);
}

std::vector<TokenRange> RangesOf(absl::Span<const Lane> lanes) {
  std::vector<TokenRange> ranges;
  int64_t begin = 0;
  for (const Lane& lane : lanes) {
    ranges.push_back({begin, lane.hidden->rows});
    begin += lane.hidden->rows;
  }
  return ranges;
}

MatrixView RowsOf(const at::Tensor& x, const TokenRange& range) {
  return {x.data_ptr<float>() + range.begin * x.size(1), range.count, x.size(1)};
}

absl::StatusOr<bool> RunLanes(const ModelLayer& layer, absl::Span<const Lane> lanes,
                              const RunContext& context) {
  ComputeOnThisThread();
  const LayerTensors& tensors = layer.tensors;
  const auto load = [&layer](const NormTensors& norm) {
    return Norm::Load(layer.weights, layer.config, norm);
  };
  ASSIGN_OR_RETURN(const Norm attention_input, load(tensors.attention.input_norm));
  ASSIGN_OR_RETURN(const Norm attention_output, load(tensors.attention.output_norm));
  ASSIGN_OR_RETURN(const Norm mlp_input, load(tensors.mlp_input_norm));
  ASSIGN_OR_RETURN(const Norm mlp_output, load(tensors.mlp_output_norm));
  ASSIGN_OR_RETURN(const Attention attention, Attention::Load(layer));
  const Mlp mlp(layer);
  const bool parallel = layer.config.architecture.parallel;

  const std::vector<TokenRange> ranges = RangesOf(lanes);
  std::vector<at::Tensor> parts;
  for (const Lane& lane : lanes) parts.push_back(TensorOver(*lane.hidden));
  at::Tensor x = at::cat(parts);

  const at::Tensor normed = attention_input(x);
  ASSIGN_OR_RETURN(const at::Tensor attended, attention.Run(normed.t(), lanes, ranges, context));
  const at::Tensor after_attention = x + attention_output(attended.t());
  const at::Tensor before_mlp = parallel ? x : after_attention;
  const at::Tensor mlp_in = parallel && !mlp_input.exists() ? normed : mlp_input(before_mlp);
  ASSIGN_OR_RETURN(const at::Tensor made, mlp.Run(mlp_in.t(), lanes, ranges, context));
  const at::Tensor added = mlp_output(made.t()).contiguous();
  x = after_attention + added;

  if (!std::isfinite(x.sum().item<float>())) return false;
  for (size_t i = 0; i < lanes.size(); ++i) {
    const MatrixView rows = RowsOf(x, ranges[i]);
    std::copy_n(rows.data, rows.rows * rows.columns, lanes[i].hidden->data.begin());
    if (lanes[i].tap == nullptr) continue;
    lanes[i].tap->OnMlp(layer.index, RowsOf(added, ranges[i]));
    lanes[i].tap->OnResidual(layer.index, lanes[i].hidden->View());
  }
  return true;
}

class LibTorchComputation : public Computation {
 public:
  absl::StatusOr<bool> RunLayer(const ModelLayer& layer, absl::Span<const Lane> lanes,
                                const RunContext& context) const override {
    try {
      return RunLanes(layer, lanes, context);
    } catch (const std::exception& error) {
      return Error(Reason::kInternal, fmt::format("layer {}", layer.index), error.what());
    }
  }

  absl::StatusOr<std::unique_ptr<const HeadComputation>> LoadHead(
      const ModelConfig& config, const NormTensors& norm, const LinearTensors& output,
      std::shared_ptr<const WeightReader> weights) const override {
    try {
      return OutputHead::Load(config, norm, output, std::move(weights));
    } catch (const std::exception& error) {
      return Error(Reason::kInternal, "output projection", error.what());
    }
  }
};

}  // namespace
}  // namespace linchpin

extern "C" __attribute__((visibility("default")))
const linchpin::LibTorchModule linchpin_libtorch_module;

const linchpin::LibTorchModule linchpin_libtorch_module = {
    linchpin::kForwardBuild, [] {
      static const linchpin::LibTorchComputation computation;
      return static_cast<const linchpin::Computation*>(&computation);
    }};
