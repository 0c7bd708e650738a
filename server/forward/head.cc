// Head: the final norm, then the output projection in slabs of vocabulary rows.
#include <ATen/ATen.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "base/parallel.h"
#include "base/status.h"
#include "forward/compute_threads.h"
#include "forward/forward_pass.h"
#include "forward/tensor_loading.h"

namespace linchpin {
namespace {

constexpr int64_t kSlabBytes = 32 << 20;  // of float32 weights
constexpr int64_t kTokensAtOnce = 256;    // bounds the logits of a slab

}  // namespace

struct Head::Weights {
  const Checkpoint* checkpoint = nullptr;
  const StoredTensor* output = nullptr;
  at::Tensor norm;
  double eps = 0;

  at::Tensor Normed(const Matrix& hidden) const { return RmsNorm(TensorOver(hidden), norm, eps); }
};

namespace {

// Running log-sum-exp over the vocabulary and the target's logit, per position.
struct Positions {
  at::Tensor normed;   // [positions, hidden]
  at::Tensor targets;  // [positions], int64
  at::Tensor log_sum;  // [positions]
  at::Tensor chosen;   // [positions], the target's logit

  int64_t chunks() const { return (normed.size(0) + kTokensAtOnce - 1) / kTokensAtOnce; }

  // Takes in the logits of vocabulary rows [first, first + slab rows) for one
  // chunk of positions.  Thread-safe for distinct chunks.
  void Add(const at::Tensor& slab, int64_t first, int64_t chunk) {
    ComputeOnThisThread();
    const int64_t begin = chunk * kTokensAtOnce;
    const int64_t count = std::min(kTokensAtOnce, normed.size(0) - begin);
    const at::Tensor logits = at::linear(normed.narrow(0, begin, count), slab);
    at::Tensor sums = log_sum.narrow(0, begin, count);
    sums.copy_(at::logaddexp(sums, logits.logsumexp(1)));
    const at::Tensor local = targets.narrow(0, begin, count) - first;
    const at::Tensor here = local.ge(0).logical_and(local.lt(slab.size(0)));
    const at::Tensor picked =
        logits.gather(1, local.clamp(0, slab.size(0) - 1).unsqueeze(1)).squeeze(1);
    at::Tensor kept = chosen.narrow(0, begin, count);
    kept.copy_(at::where(here, picked, kept));
  }
};

// Calls `use(slab, first row)` for the output projection, slab by slab.
template <typename Use>
absl::Status ForEachSlab(const Checkpoint& checkpoint, const StoredTensor& output,
                         const RunContext& context, const Use& use) {
  const int64_t vocab = output.info.shape[0];
  const int64_t step = std::max<int64_t>(1, kSlabBytes / (4 * output.info.shape[1]));
  for (int64_t first = 0; first < vocab; first += step) {
    RETURN_IF_ERROR(context.Check());
    ASSIGN_OR_RETURN(const at::Tensor slab,
                     LoadRows(checkpoint, output, first, std::min(step, vocab - first)));
    RETURN_IF_ERROR(use(slab, first));
  }
  return absl::OkStatus();
}

}  // namespace

Head::Head(std::unique_ptr<Weights> weights) : weights_(std::move(weights)) {}
Head::Head(Head&&) noexcept = default;
Head& Head::operator=(Head&&) noexcept = default;
Head::~Head() = default;

absl::StatusOr<std::vector<std::vector<float>>> Head::Losses(absl::Span<const LossLane> lanes,
                                                             const RunContext& context) const {
  try {
    std::vector<at::Tensor> normed;
    std::vector<int64_t> targets;
    for (const LossLane& lane : lanes) {
      normed.push_back(weights_->Normed(*lane.hidden).narrow(0, 0, lane.hidden->rows - 1));
      targets.insert(targets.end(), lane.token_ids.begin() + 1, lane.token_ids.end());
    }
    const int64_t count = static_cast<int64_t>(targets.size());
    Positions positions{at::cat(normed), at::from_blob(targets.data(), {count}, at::kLong),
                        at::full({count}, -std::numeric_limits<float>::infinity()),
                        at::zeros({count})};
    RETURN_IF_ERROR(ForEachSlab(*weights_->checkpoint, *weights_->output, context,
                                [&](const at::Tensor& slab, int64_t first) {
                                  return ForEachIndex(
                                      context.threads, positions.chunks(), [&](size_t chunk) {
                                        positions.Add(slab, first, static_cast<int64_t>(chunk));
                                        return context.Check();
                                      });
                                }));
    const at::Tensor losses = positions.log_sum - positions.chosen;
    const float* values = losses.data_ptr<float>();
    std::vector<std::vector<float>> result;
    for (const LossLane& lane : lanes) {
      result.emplace_back(values, values + lane.hidden->rows - 1);
      values += lane.hidden->rows - 1;
    }
    return result;
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

absl::StatusOr<std::vector<float>> Head::LastLogits(const Matrix& hidden) const {
  try {
    const at::Tensor last = weights_->Normed(hidden).narrow(0, hidden.rows - 1, 1);
    std::vector<float> logits;
    RETURN_IF_ERROR(ForEachSlab(*weights_->checkpoint, *weights_->output, RunContext{},
                                [&](const at::Tensor& slab, int64_t /*first*/) {
                                  const at::Tensor part = at::linear(last, slab).contiguous();
                                  const auto* values = part.data_ptr<float>();
                                  logits.insert(logits.end(), values, values + part.numel());
                                  return absl::OkStatus();
                                }));
    return logits;
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

absl::StatusOr<Head> ForwardPass::LoadHead() const {
  auto weights = std::make_unique<Head::Weights>();
  weights->checkpoint = checkpoint_;
  weights->eps = config_.norm_eps;
  ASSIGN_OR_RETURN(weights->output, checkpoint_->Find(OutputTensor(config_).name));
  ASSIGN_OR_RETURN(const StoredTensor* norm, checkpoint_->Find(FinalNormTensor(config_).name));
  ASSIGN_OR_RETURN(weights->norm, LoadRows(*checkpoint_, *norm, 0, config_.hidden));
  return Head(std::move(weights));
}

}  // namespace linchpin
