#include "forward/libtorch/norm.h"

#include "base/status.h"
#include "forward/libtorch/projection.h"

namespace linchpin {

absl::StatusOr<Norm> Norm::Load(const WeightReader& weights, const ModelConfig& config,
                                const NormTensors& tensors) {
  Norm norm;
  norm.exists_ = tensors.exists;
  norm.kind_ = config.architecture.norm;
  norm.eps_ = config.norm_eps;
  ASSIGN_OR_RETURN(norm.gain_, LoadTensor(weights, tensors.gain));
  ASSIGN_OR_RETURN(norm.bias_, LoadTensor(weights, tensors.bias));
  if (norm.gain_.defined() && norm.kind_ == NormKind::kRmsPlusOne) norm.gain_.add_(1);
  return norm;
}

at::Tensor Norm::operator()(const at::Tensor& x) const {
  if (!exists_) return x;
  if (kind_ == NormKind::kLayer || kind_ == NormKind::kLayerPlain) {
    return at::layer_norm(x, {x.size(-1)}, gain_, bias_, eps_);
  }
  return x * at::rsqrt(x.square().mean(-1, true) + eps_) * gain_;
}

}  // namespace linchpin
