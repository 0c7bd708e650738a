#include "forward/libtorch/mlp.h"

#include <algorithm>
#include <map>

#include "base/status.h"
#include "forward/libtorch/projection.h"

namespace linchpin {
namespace {

// The part of the ascending `tokens` that falls into `range`.
TokenRange PartIn(const at::Tensor& tokens, const TokenRange& range) {
  const auto* begin = tokens.data_ptr<int64_t>();
  const auto* end = begin + tokens.numel();
  const auto* first = std::lower_bound(begin, end, range.begin);
  const auto* last = std::lower_bound(first, end, range.begin + range.count);
  return {first - begin, last - first};
}

MatrixView ViewOf(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), tensor.size(0), tensor.size(1)};
}

// Shows one lane's part of a down_proj, [channels, tokens], to its tap.
void Show(Tap& tap, int layer, int expert, const at::Tensor& tokens, const at::Tensor& weights,
          const at::Tensor& input, const at::Tensor& output) {
  const at::Tensor in = input.t().contiguous();
  const at::Tensor out = output.t().contiguous();
  const auto count = static_cast<size_t>(tokens.numel());
  tap.OnDownProj({layer,
                  expert,
                  {tokens.data_ptr<int64_t>(), count},
                  {weights.data_ptr<float>(), count},
                  ViewOf(in),
                  ViewOf(out)});
}

}  // namespace

absl::StatusOr<at::Tensor> Mlp::Run(const at::Tensor& x, absl::Span<const Lane> lanes,
                                    const std::vector<TokenRange>& ranges,
                                    const RunContext& context) const {
  if (!tensors_.experts.empty()) return RunExperts(x, lanes, ranges, context);
  const Routed all{at::arange(x.size(1), at::kLong), at::ones({x.size(1)})};
  return RunOne(kNoExpert, x, all, lanes, ranges, context);
}

absl::StatusOr<at::Tensor> Mlp::RunExperts(const at::Tensor& x, absl::Span<const Lane> lanes,
                                           const std::vector<TokenRange>& ranges,
                                           const RunContext& context) const {
  at::Tensor sum = at::zeros_like(x);
  ASSIGN_OR_RETURN(const std::vector<Routed> experts, Route(x, context));
  for (size_t expert = 0; expert < experts.size(); ++expert) {
    const Routed& routed = experts[expert];
    if (routed.tokens.numel() == 0) continue;
    ASSIGN_OR_RETURN(const at::Tensor output,
                     RunOne(static_cast<int>(expert), x.t().index_select(0, routed.tokens).t(),
                            routed, lanes, ranges, context));
    sum.index_add_(1, routed.tokens, output * routed.weights);
  }
  const LinearTensors& shared = tensors_.shared_router;
  if (shared.weight.name.empty()) return sum;
  ASSIGN_OR_RETURN(const at::Tensor logits, Project(weights_, shared, x, context));
  const Routed all{at::arange(x.size(1), at::kLong), logits.sigmoid().squeeze(0).contiguous()};
  ASSIGN_OR_RETURN(const at::Tensor output, RunOne(kNoExpert, x, all, lanes, ranges, context));
  return sum.add_(output * all.weights);
}

absl::StatusOr<std::vector<Mlp::Routed>> Mlp::Route(const at::Tensor& x,
                                                    const RunContext& context) const {
  ASSIGN_OR_RETURN(const at::Tensor logits, Project(weights_, tensors_.router, x, context));
  const auto [chosen, indices] = logits.softmax(0).topk(config_.experts.per_token, 0);
  at::Tensor weights = chosen;
  if (config_.experts.renormalize) weights = weights / weights.sum(0, true);
  std::vector<Routed> experts;
  for (int64_t expert = 0; expert < config_.experts.count; ++expert) {
    const at::Tensor routed = indices.eq(expert);  // [per_token, tokens], at most once per token
    const at::Tensor tokens = routed.any(0).nonzero().squeeze(1).contiguous();
    const at::Tensor all = (weights * routed).sum(0);
    experts.push_back({tokens, all.index_select(0, tokens).contiguous()});
  }
  return experts;
}

absl::StatusOr<at::Tensor> Mlp::RunOne(int expert, const at::Tensor& x, const Routed& routed,
                                       absl::Span<const Lane> lanes,
                                       const std::vector<TokenRange>& ranges,
                                       const RunContext& context) const {
  const MlpTensors& mlp =
      expert == kNoExpert ? tensors_.mlp : tensors_.experts[static_cast<size_t>(expert)];
  std::vector<TokenRange> parts;
  for (const TokenRange& range : ranges) parts.push_back(PartIn(routed.tokens, range));
  const at::Tensor seen = SeenInput({layer_, LinearInput::kMlp}, {&mlp.gate, &mlp.up, &mlp.gate_up},
                                    x, lanes, parts, weights_.lens());
  ASSIGN_OR_RETURN(const at::Tensor made, DownInput(mlp, seen, context));
  const at::Tensor input =
      SeenInput({layer_, LinearInput::kDown}, {&mlp.down}, made, lanes, parts, weights_.lens());
  ASSIGN_OR_RETURN(at::Tensor output, Project(weights_, mlp.down, input, context));
  for (size_t i = 0; i < lanes.size(); ++i) {
    const TokenRange& part = parts[i];
    if (part.count == 0) continue;
    const auto of_lane = [&part](const at::Tensor& all, int64_t dim) {
      return all.narrow(dim, part.begin, part.count);
    };
    RETURN_IF_ERROR(ApplyEdits(mlp.down, expert, lanes[i], of_lane(input, 1), of_lane(output, 1)));
    if (lanes[i].tap == nullptr) continue;
    Show(*lanes[i].tap, layer_, expert, of_lane(routed.tokens, 0) - ranges[i].begin,
         of_lane(routed.weights, 0), of_lane(input, 1), of_lane(output, 1));
  }
  return output;
}

absl::StatusOr<at::Tensor> Mlp::DownInput(const MlpTensors& mlp, const at::Tensor& x,
                                          const RunContext& context) const {
  if (!mlp.gate_up.weight.name.empty()) {
    ASSIGN_OR_RETURN(const at::Tensor both, Project(weights_, mlp.gate_up, x, context));
    const int64_t width = both.size(0) / 2;
    return Activate(both.narrow(0, 0, width)).mul_(both.narrow(0, width, width));
  }
  ASSIGN_OR_RETURN(const at::Tensor up, Project(weights_, mlp.up, x, context));
  if (mlp.gate.weight.name.empty()) return Activate(up);
  ASSIGN_OR_RETURN(const at::Tensor gate, Project(weights_, mlp.gate, x, context));
  return Activate(gate).mul_(up);
}

at::Tensor Mlp::Activate(const at::Tensor& x) const {
  switch (config_.activation) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kRelu:
      return at::relu(x);
  }
  return x;
}

absl::Status Mlp::ApplyEdits(const LinearTensors& down, int expert, const Lane& lane,
                             const at::Tensor& input, at::Tensor output) const {
  std::map<int64_t, at::Tensor> channels;
  for (const DownProjEdit& edit : lane.edits) {
    if (edit.layer != layer_ || edit.expert != expert) continue;
    const auto [channel, added] = channels.try_emplace(edit.row);
    if (added) {
      ASSIGN_OR_RETURN(channel->second, LoadChannel(weights_, down, edit.row));
    }
    channel->second[edit.column] = edit.value;
  }
  if (channels.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const at::Tensor bias, LoadTensor(weights_, down.bias));
  for (const auto& [channel, weights] : channels) {
    at::Tensor values = weights.unsqueeze(0).mm(input).squeeze(0);
    if (bias.defined()) values += bias[channel];
    output[channel].copy_(values);
  }
  return absl::OkStatus();
}

}  // namespace linchpin
