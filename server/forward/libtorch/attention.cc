#include "forward/libtorch/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "base/status.h"
#include "forward/libtorch/compute_threads.h"
#include "forward/libtorch/projection.h"
#include "forward/libtorch/rotary.h"

namespace linchpin {
namespace {

// Scores of so many elements are held at once.
constexpr int64_t kScoreElements = 1 << 22;

// One slope per head, a falling geometric sequence; heads beyond the largest
// power of two take every other slope of the next (Press et al., appendix A).
at::Tensor AlibiSlopes(int64_t heads) {
  const double whole = std::exp2(std::floor(std::log2(static_cast<double>(heads))));
  std::vector<float> slopes;
  for (int64_t i = 0; i < heads; ++i) {
    const double at = static_cast<double>(i);
    slopes.push_back(static_cast<float>(at < whole
                                            ? std::exp2(-8 * (at + 1) / whole)
                                            : std::exp2(-4 * (2 * (at - whole) + 1) / whole)));
  }
  return at::tensor(slopes);
}

// [heads x head_dim, tokens] -> [heads, tokens, head_dim]
at::Tensor SplitHeads(const at::Tensor& x, int64_t head_dim) {
  return x.reshape({x.size(0) / head_dim, head_dim, x.size(1)}).transpose(1, 2).contiguous();
}

at::Tensor Cap(const at::Tensor& x, double cap) { return cap > 0 ? (x / cap).tanh() * cap : x; }

}  // namespace

absl::StatusOr<Attention> Attention::Load(const ModelLayer& layer) {
  Attention attention(layer);
  const AttentionTensors& tensors = layer.tensors.attention;
  ASSIGN_OR_RETURN(attention.query_norm_,
                   Norm::Load(layer.weights, layer.config, tensors.query_norm));
  ASSIGN_OR_RETURN(attention.key_norm_, Norm::Load(layer.weights, layer.config, tensors.key_norm));
  return attention;
}

absl::StatusOr<Attention::Heads> Attention::ProjectHeads(const at::Tensor& x,
                                                         const RunContext& context) const {
  Heads all;
  if (!tensors_.qkv.weight.name.empty()) {
    ASSIGN_OR_RETURN(const at::Tensor fused, Project(weights_, tensors_.qkv, x, context));
    all = SplitFused(fused);
  } else {
    ASSIGN_OR_RETURN(all.query, Project(weights_, tensors_.query, x, context));
    ASSIGN_OR_RETURN(all.key, Project(weights_, tensors_.key, x, context));
    ASSIGN_OR_RETURN(all.value, Project(weights_, tensors_.value, x, context));
  }
  if (const double clip = config_.clip_qkv; clip > 0) {
    for (at::Tensor* part : {&all.query, &all.key, &all.value}) part->clamp_(-clip, clip);
  }
  if (config_.architecture.qk_norm == QkNorm::kProjection) {
    all.query = query_norm_(all.query.t()).t();
    all.key = key_norm_(all.key.t()).t();
  }
  return all;
}

Attention::Heads Attention::SplitFused(const at::Tensor& fused) const {
  const int64_t dim = config_.head_dim;
  const int64_t keys = config_.kv_heads * dim;
  const int64_t queries = config_.heads * dim;
  const int64_t tokens = fused.size(1);
  if (config_.architecture.qkv_layout == QkvLayout::kConcatenated) {
    return {fused.narrow(0, 0, queries), fused.narrow(0, queries, keys),
            fused.narrow(0, queries + keys, keys)};
  }
  const int64_t shared = config_.heads / config_.kv_heads;
  const at::Tensor groups = fused.view({config_.kv_heads, shared + 2, dim, tokens});
  return {groups.narrow(1, 0, shared).reshape({queries, tokens}),
          groups.select(1, shared).reshape({keys, tokens}),
          groups.select(1, shared + 1).reshape({keys, tokens})};
}

Attention::Heads Attention::LaneHeads(const Heads& all, const TokenRange& lane) const {
  const auto split = [&](const at::Tensor& x) {
    return SplitHeads(x.narrow(1, lane.begin, lane.count), config_.head_dim);
  };
  Heads heads{split(all.query), split(all.key), split(all.value)};
  if (config_.architecture.qk_norm == QkNorm::kHead) {
    heads.query = query_norm_(heads.query);
    heads.key = key_norm_(heads.key);
  }
  if (config_.architecture.positions == PositionKind::kRotary) {
    const bool windowed = config_.windows[static_cast<size_t>(layer_)] > 0;
    const RotaryTable table = MakeRotaryTable(windowed ? config_.rope.windowed : config_.rope.full,
                                              config_.head_dim, lane.count);
    heads.query = Rotate(heads.query, table);
    heads.key = Rotate(heads.key, table);
  }
  return heads;
}

at::Tensor Attention::DistanceBias(const TokenRange& queries, int64_t first_head,
                                   int64_t heads) const {
  const at::Tensor keys = at::arange(queries.begin + queries.count, at::kLong);
  const at::Tensor distance =
      keys.narrow(0, queries.begin, queries.count).unsqueeze(1) - keys.unsqueeze(0);
  at::Tensor unseen = distance.lt(0);
  const int64_t window = config_.windows[static_cast<size_t>(layer_)];
  if (window > 0) unseen = unseen.logical_or(distance.ge(window));
  at::Tensor bias = at::zeros({1, queries.count, keys.numel()});
  if (config_.architecture.positions == PositionKind::kAlibi) {
    // Rounded to bf16, as the models were trained; scaled with the scores.
    const at::Tensor slopes =
        AlibiSlopes(config_.heads).narrow(0, first_head, heads).to(at::kBFloat16).unsqueeze(1);
    bias = (slopes * keys).to(at::kFloat).unsqueeze(1) * config_.attention_scale;
  }
  return bias.masked_fill(unseen, -std::numeric_limits<float>::infinity());
}

at::Tensor Attention::Mix(const Heads& heads) const {
  const int64_t tokens = heads.query.size(1);
  const int64_t shared = config_.heads / config_.kv_heads;
  // Whole groups, so that a key is never split from its queries; as many queries
  // of them as fit.
  const int64_t rows = std::clamp<int64_t>(kScoreElements / (tokens * shared), 1, tokens);
  const int64_t step = std::max<int64_t>(1, kScoreElements / (rows * tokens * shared)) * shared;
  at::Tensor mixed = at::empty_like(heads.query);
  for (TokenRange queries; queries.begin < tokens; queries.begin += rows) {
    queries.count = std::min(rows, tokens - queries.begin);
    for (int64_t first = 0; first < config_.heads; first += step) {
      const int64_t count = std::min(step, config_.heads - first);
      const auto queries_of = [&](const at::Tensor& x) {
        return x.narrow(0, first, count).narrow(1, queries.begin, queries.count);
      };
      const auto keys_of = [&](const at::Tensor& x) {
        return x.narrow(0, first / shared, count / shared)
            .narrow(1, 0, queries.begin + queries.count)
            .repeat_interleave(shared, 0);
      };
      const at::Tensor query = queries_of(heads.query) * config_.attention_scale;
      at::Tensor scores =
          Cap(at::matmul(query, keys_of(heads.key).transpose(1, 2)), config_.attention_softcap);
      scores.add_(DistanceBias(queries, first, count));
      queries_of(mixed).copy_(at::matmul(scores.softmax(-1), keys_of(heads.value)));
    }
  }
  return mixed.transpose(1, 2).reshape({-1, tokens});
}

absl::StatusOr<at::Tensor> Attention::Run(const at::Tensor& x, absl::Span<const Lane> lanes,
                                          const std::vector<TokenRange>& ranges,
                                          const RunContext& context) const {
  const at::Tensor input =
      SeenInput({layer_, LinearInput::kAttention},
                {&tensors_.query, &tensors_.key, &tensors_.value, &tensors_.qkv}, x, lanes, ranges,
                weights_.lens());
  ASSIGN_OR_RETURN(const Heads all, ProjectHeads(input, context));
  at::Tensor mixed = at::empty({x.size(1), config_.heads * config_.head_dim}, at::kFloat).t();
  RETURN_IF_ERROR(ForEachIndex(context.threads, ranges.size(), [&](size_t i) -> absl::Status {
    ComputeOnThisThread();
    RETURN_IF_ERROR(context.Check());
    mixed.narrow(1, ranges[i].begin, ranges[i].count).copy_(Mix(LaneHeads(all, ranges[i])));
    return absl::OkStatus();
  }));
  const at::Tensor output_input = SeenInput({layer_, LinearInput::kMixed}, {&tensors_.output},
                                            mixed, lanes, ranges, weights_.lens());
  return Project(weights_, tensors_.output, output_input, context);
}

}  // namespace linchpin
