// ForwardPass::RunLayer: norms, attention and MLP of one decoder block, for
// several lanes side by side.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <exception>

#include "base/status.h"
#include "fmt/format.h"
#include "forward/attention.h"
#include "forward/compute_threads.h"
#include "forward/forward_pass.h"
#include "forward/mlp.h"
#include "forward/norm.h"
#include "forward/projection.h"

namespace linchpin {
namespace {

// Tokens of the lanes that run together: the weights are read again for the
// next so many, and so many activations are held.
constexpr int64_t kTokensTogether = 2048;

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

// Names the tensor of a layer that made its output what it is, if one did.
absl::Status NotFinite(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& tensors,
                       int layer) {
  for (const ExpectedTensor& tensor : tensors) {
    ASSIGN_OR_RETURN(const bool finite, IsFinite(checkpoint, tensor));
    if (finite) continue;
    return Error(Reason::kNotFinite, fmt::format("layer {}, {}", layer, tensor.name),
                 "it holds a NaN or an infinite value",
                 "fetch the checkpoint again; compress keeps it with --detection off and --ignore");
  }
  return Error(Reason::kNotFinite, fmt::format("layer {}", layer),
               "its output is not finite though its weights are: its activations overflow",
               "check the layers before it, and the tokens");
}

}  // namespace

absl::Status ForwardPass::RunLayer(int index, absl::Span<const Lane> lanes,
                                   const RunContext& context) const {
  for (size_t first = 0; first < lanes.size();) {
    int64_t tokens = 0;
    size_t end = first;
    do {
      tokens += lanes[end].hidden->rows;
    } while (++end < lanes.size() && tokens + lanes[end].hidden->rows <= kTokensTogether);
    try {
      RETURN_IF_ERROR(RunLanes(index, lanes.subspan(first, end - first), context));
    } catch (const std::exception& error) {
      return Error(Reason::kInternal, fmt::format("layer {}", index), error.what());
    }
    first = end;
  }
  return absl::OkStatus();
}

absl::Status ForwardPass::RunLanes(int index, absl::Span<const Lane> lanes,
                                   const RunContext& context) const {
  ComputeOnThisThread();
  const AttentionTensors attention_tensors = tensors_->Attention(index);
  const auto load = [this](const NormTensors& tensors) {
    return Norm::Load(*checkpoint_, *config_, tensors);
  };
  ASSIGN_OR_RETURN(const Norm attention_input, load(attention_tensors.input_norm));
  ASSIGN_OR_RETURN(const Norm attention_output, load(attention_tensors.output_norm));
  ASSIGN_OR_RETURN(const Norm mlp_input, load(tensors_->MlpInputNorm(index)));
  ASSIGN_OR_RETURN(const Norm mlp_output, load(tensors_->MlpOutputNorm(index)));
  ASSIGN_OR_RETURN(const Attention attention,
                   Attention::Load({*checkpoint_, lens_}, *config_, attention_tensors, index));
  const Mlp mlp({*checkpoint_, lens_}, *config_, *tensors_, index);
  const bool parallel = config_->architecture.parallel;

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

  if (!std::isfinite(x.sum().item<float>())) {
    return NotFinite(*checkpoint_, tensors_->Layer(index), index);
  }
  for (size_t i = 0; i < lanes.size(); ++i) {
    const MatrixView rows = RowsOf(x, ranges[i]);
    std::copy_n(rows.data, rows.rows * rows.columns, lanes[i].hidden->data.begin());
    if (lanes[i].tap == nullptr) continue;
    lanes[i].tap->OnMlp(index, RowsOf(added, ranges[i]));
    lanes[i].tap->OnResidual(index, lanes[i].hidden->View());
  }
  return absl::OkStatus();
}

uint64_t ForwardPass::ActivationBytes(const ModelConfig& config, int64_t longest, int threads) {
  const int64_t width = std::max(
      {config.intermediate, config.experts.intermediate, config.experts.shared_intermediate});
  const int64_t heads = (config.heads + 2 * config.kv_heads) * config.head_dim;
  // Around the layer, from queries to mixed values, and within the MLP, each
  // with the copies that a tap and the operators make.
  const int64_t per_token = 10 * config.hidden + 3 * heads + 4 * width;
  const int64_t together = std::max(longest, kTokensTogether);
  return static_cast<uint64_t>(together * per_token + threads * Attention::kLaneElements) *
         sizeof(float);
}

absl::StatusOr<std::vector<float>> ForwardPass::MlpOutputGain(int layer) const {
  ASSIGN_OR_RETURN(const Norm norm,
                   Norm::Load(*checkpoint_, *config_, tensors_->MlpOutputNorm(layer)));
  if (!norm.gain().defined()) return std::vector<float>();
  const auto* gain = norm.gain().data_ptr<float>();
  return std::vector<float>(gain, gain + norm.gain().numel());
}

}  // namespace linchpin
