// The norms that model families put around attention and MLP.
#pragma once

#include <ATen/ATen.h>

#include "absl/status/statusor.h"
#include "checkpoint/model_config.h"
#include "forward/computation.h"
#include "forward/model_tensors.h"

namespace linchpin {

// A norm with its tensors in memory.  Thread-safe.
class Norm {
 public:
  static absl::StatusOr<Norm> Load(const WeightReader& weights, const ModelConfig& config,
                                   const NormTensors& tensors);

  bool exists() const { return exists_; }
  // Over the last dimension of `x`; `x` itself where the norm does not exist.
  at::Tensor operator()(const at::Tensor& x) const;
  // The gain that each channel is multiplied by; undefined where there is none.
  const at::Tensor& gain() const { return gain_; }

 private:
  bool exists_ = false;
  NormKind kind_ = NormKind::kRms;
  double eps_ = 0;
  at::Tensor gain_;
  at::Tensor bias_;
};

}  // namespace linchpin
