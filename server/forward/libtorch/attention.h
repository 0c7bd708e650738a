// Causal self-attention of one layer for several lanes at once.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/model_config.h"
#include "forward/computation.h"
#include "forward/libtorch/lane_tokens.h"
#include "forward/libtorch/norm.h"
#include "forward/model_tensors.h"

namespace linchpin {

// Grouped-query attention (Ainslie et al., arXiv 2305.13245) with what the
// families add: biases, norms of queries and keys, windows, soft caps, rotary
// embeddings or ALiBi (Press et al., arXiv 2108.12409).
class Attention {
 public:
  // What the layer refers to must outlive it.
  static absl::StatusOr<Attention> Load(const ModelLayer& layer);

  // Of `x` [hidden, tokens], already normed, the lanes side by side at `ranges`;
  // each lane's positions count from 0.  Returns [hidden, tokens].
  absl::StatusOr<at::Tensor> Run(const at::Tensor& x, absl::Span<const Lane> lanes,
                                 const std::vector<TokenRange>& ranges,
                                 const RunContext& context) const;

 private:
  struct Heads {  // of one lane, each [heads, tokens, head_dim]
    at::Tensor query;
    at::Tensor key;
    at::Tensor value;
  };

  explicit Attention(const ModelLayer& layer)
      : weights_(layer.weights),
        config_(layer.config),
        tensors_(layer.tensors.attention),
        layer_(layer.index) {}
  // Queries, keys and values of all lanes, each [heads x head_dim, tokens].
  absl::StatusOr<Heads> ProjectHeads(const at::Tensor& x, const RunContext& context) const;
  Heads SplitFused(const at::Tensor& fused) const;
  Heads LaneHeads(const Heads& all, const TokenRange& lane) const;
  // Adds to the scores of some heads what the distance of two tokens says, of
  // `queries` and all keys up to the last of them; [heads or 1, queries, keys],
  // 0 or -infinity but for ALiBi.
  at::Tensor DistanceBias(const TokenRange& queries, int64_t first_head, int64_t heads) const;
  at::Tensor Mix(const Heads& heads) const;  // [heads x head_dim, tokens]

  const WeightReader& weights_;
  const ModelConfig& config_;
  const AttentionTensors& tensors_;
  int layer_;
  Norm query_norm_;
  Norm key_norm_;
};

}  // namespace linchpin
