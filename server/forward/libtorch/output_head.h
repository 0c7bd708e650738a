// Head: the final norm, then the output projection in slabs of vocabulary rows.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/model_config.h"
#include "forward/computation.h"
#include "forward/libtorch/norm.h"
#include "forward/libtorch/scoring.h"
#include "forward/model_tensors.h"

namespace linchpin {

class OutputHead : public HeadComputation {
 public:
  static absl::StatusOr<std::unique_ptr<const OutputHead>> Load(
      const ModelConfig& config, const NormTensors& norm, const LinearTensors& output,
      std::shared_ptr<const WeightReader> weights);

  int64_t vocab() const override { return output_.shape[0]; }
  absl::StatusOr<std::vector<TokenScores>> Score(absl::Span<const ScoreLane> lanes,
                                                 const RunContext& context,
                                                 absl::Span<const int32_t> watched) const override;
  absl::StatusOr<std::vector<float>> LastLogits(const Matrix& hidden) const override;

 private:
  OutputHead() = default;
  int64_t hidden() const { return output_.shape[1]; }
  at::Tensor Normed(const Matrix& hidden) const;
  // Of `count` rows from `first`, which stay in `memory`.
  absl::StatusOr<VocabularySlab> Slab(int64_t first, int64_t count, at::Tensor& memory) const;

  std::shared_ptr<const WeightReader> weights_;
  ExpectedTensor output_;
  Norm norm_;
  at::Tensor bias_;  // [vocab], or undefined
  double softcap_ = 0;
};

}  // namespace linchpin
