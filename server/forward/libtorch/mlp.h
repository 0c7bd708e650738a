// The MLP of one layer, dense or a mixture of experts, for several lanes at once.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/model_config.h"
#include "forward/computation.h"
#include "forward/forward_pass.h"
#include "forward/libtorch/lane_tokens.h"
#include "forward/model_tensors.h"

namespace linchpin {

class Mlp {
 public:
  // What the layer refers to must outlive this.
  explicit Mlp(const ModelLayer& layer)
      : weights_(layer.weights),
        config_(layer.config),
        tensors_(layer.tensors),
        layer_(layer.index) {}

  // Of `x` [hidden, tokens], already normed, the lanes side by side at `ranges`;
  // returns [hidden, tokens].  Shows every down_proj to the lanes' taps, with
  // their edits in force.  Only experts that some token is routed to are read.
  absl::StatusOr<at::Tensor> Run(const at::Tensor& x, absl::Span<const Lane> lanes,
                                 const std::vector<TokenRange>& ranges,
                                 const RunContext& context) const;

 private:
  // Some of the tokens, for one expert: which they are, and how much of the
  // output the layer adds, each [tokens].
  struct Routed {
    at::Tensor tokens;
    at::Tensor weights;
  };

  absl::StatusOr<at::Tensor> RunExperts(const at::Tensor& x, absl::Span<const Lane> lanes,
                                        const std::vector<TokenRange>& ranges,
                                        const RunContext& context) const;
  absl::StatusOr<std::vector<Routed>> Route(const at::Tensor& x, const RunContext& context) const;
  // `x` holds the routed tokens only.
  absl::StatusOr<at::Tensor> RunOne(int expert, const at::Tensor& x, const Routed& routed,
                                    absl::Span<const Lane> lanes,
                                    const std::vector<TokenRange>& ranges,
                                    const RunContext& context) const;
  absl::StatusOr<at::Tensor> DownInput(const MlpTensors& mlp, const at::Tensor& x,
                                       const RunContext& context) const;
  at::Tensor Activate(const at::Tensor& x) const;
  // Computes the output channels of edited rows anew, from a copy of those rows.
  absl::Status ApplyEdits(const LinearTensors& down, int expert, const Lane& lane,
                          const at::Tensor& input, at::Tensor output) const;

  const WeightReader& weights_;
  const ModelConfig& config_;
  const LayerTensors& tensors_;
  int layer_;
};

}  // namespace linchpin
