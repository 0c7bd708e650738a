// Head: the final norm, then the output projection in slabs of vocabulary rows.
#include <ATen/ATen.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "base/parallel.h"
#include "base/status.h"
#include "forward/compute_threads.h"
#include "forward/forward_pass.h"
#include "forward/norm.h"
#include "forward/projection.h"

namespace linchpin {

struct Head::Weights {
  const Checkpoint* checkpoint = nullptr;
  const StoredTensor* output = nullptr;
  Norm norm;
  at::Tensor bias;  // [vocab], or undefined
  double softcap = 0;

  at::Tensor Normed(const Matrix& hidden) const {
    return norm(at::from_blob(const_cast<float*>(hidden.data.data()), {hidden.rows, hidden.columns},
                              at::kFloat));
  }
};

namespace {

constexpr int64_t kSlabElements = 4 << 20;  // of float32 weights
constexpr int64_t kTokensAtOnce = 256;      // bounds the logits of a slab

// A piece of the vocabulary: rows of the output projection.
struct VocabularySlab {
  at::Tensor weights;  // [rows, hidden]
  at::Tensor bias;     // [rows], or undefined
  int64_t first = 0;
  double softcap = 0;

  at::Tensor Logits(const at::Tensor& normed) const {
    at::Tensor logits = at::linear(normed, weights, bias);
    return softcap > 0 ? (logits / softcap).tanh() * softcap : logits;
  }
};

// What is known of a lane's predictions after some slabs, per position.  The
// vocabulary's softmax is kept as a running maximum and the mass below it.
struct Scoring {
  at::Tensor normed;    // [positions, hidden]
  at::Tensor targets;   // [positions], int64
  at::Tensor top;       // largest logit
  at::Tensor mass;      // sum of exp(logit - top)
  at::Tensor chosen;    // the target's logit
  at::Tensor distance;  // sum of exp(r - top of r) (r - logit), r: the reference's

  Scoring(const at::Tensor& hidden, absl::Span<const int32_t> ids) {
    const int64_t count = hidden.size(0) - 1;
    normed = hidden.narrow(0, 0, count);
    targets = at::empty({count}, at::kLong);
    std::copy(ids.begin() + 1, ids.end(), targets.data_ptr<int64_t>());
    top = at::full({count}, -std::numeric_limits<float>::infinity());
    mass = at::zeros({count});
    chosen = at::zeros({count});
    distance = at::zeros({count});
  }

  at::Tensor LogSum() const { return top + mass.log(); }
};

// Positions [begin, begin + count) of some lanes.
struct Chunk {
  int64_t begin = 0;
  int64_t count = 0;

  at::Tensor Of(const at::Tensor& all) const { return all.narrow(0, begin, count); }

  // Takes in a slab's logits; returns what the mass so far was multiplied by.
  at::Tensor Add(const at::Tensor& logits, const VocabularySlab& slab, Scoring& lane) const {
    at::Tensor top = Of(lane.top);
    at::Tensor mass = Of(lane.mass);
    const at::Tensor higher = at::maximum(top, logits.amax(1));
    const at::Tensor kept = (top - higher).exp();
    mass.mul_(kept).add_((logits - higher.unsqueeze(1)).exp().sum(1));
    top.copy_(higher);
    const at::Tensor local = Of(lane.targets) - slab.first;
    const at::Tensor here = local.ge(0).logical_and(local.lt(logits.size(1)));
    const at::Tensor picked =
        logits.gather(1, local.clamp(0, logits.size(1) - 1).unsqueeze(1)).squeeze(1);
    at::Tensor chosen = Of(lane.chosen);
    chosen.copy_(at::where(here, picked, chosen));
    return kept;
  }

  // A lane that is measured against others' reference, and those others.
  void AddGroup(const VocabularySlab& slab, Scoring& reference,
                const std::vector<Scoring*>& measured) const {
    ComputeOnThisThread();
    const at::Tensor expected = slab.Logits(Of(reference.normed));
    const at::Tensor kept = Add(expected, slab, reference);
    if (measured.empty()) return;
    const at::Tensor likely = (expected - Of(reference.top).unsqueeze(1)).exp();
    for (Scoring* lane : measured) {
      const at::Tensor logits = slab.Logits(Of(lane->normed));
      Add(logits, slab, *lane);
      at::Tensor distance = Of(lane->distance);
      distance.mul_(kept).add_((likely * (expected - logits)).sum(1));
    }
  }
};

// A lane without reference, the lanes measured against it, and a piece of them.
struct Work {
  Scoring* reference;
  std::vector<Scoring*> measured;
  Chunk chunk;
};

std::vector<Work> Divide(absl::Span<const ScoreLane> lanes, std::vector<Scoring>& scorings) {
  std::vector<Work> work;
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (lanes[i].reference >= 0) continue;
    std::vector<Scoring*> measured;
    for (size_t j = 0; j < lanes.size(); ++j) {
      if (lanes[j].reference == static_cast<int>(i)) measured.push_back(&scorings[j]);
    }
    const int64_t positions = scorings[i].normed.size(0);
    for (int64_t begin = 0; begin < positions; begin += kTokensAtOnce) {
      work.push_back({&scorings[i], measured, {begin, std::min(kTokensAtOnce, positions - begin)}});
    }
  }
  return work;
}

std::vector<float> Values(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  const auto* begin = flat.data_ptr<float>();
  return {begin, begin + flat.numel()};
}

TokenScores ScoresOf(const Scoring& lane, const Scoring* reference) {
  TokenScores scores;
  scores.losses = Values(lane.LogSum() - lane.chosen);
  if (reference == nullptr) return scores;
  scores.divergences =
      Values(lane.distance / reference->mass + lane.LogSum() - reference->LogSum());
  return scores;
}

}  // namespace

Head::Head(std::unique_ptr<Weights> weights) : weights_(std::move(weights)) {}
Head::Head(Head&&) noexcept = default;
Head& Head::operator=(Head&&) noexcept = default;
Head::~Head() = default;

template <typename Use>
absl::Status Head::ForEachSlab(const RunContext& context, const Use& use) const {
  const std::vector<int64_t>& shape = weights_->output->info.shape;
  const int64_t step = std::max<int64_t>(1, kSlabElements / shape[1]);
  for (int64_t first = 0; first < shape[0]; first += step) {
    RETURN_IF_ERROR(context.Check());
    const int64_t count = std::min(step, shape[0] - first);
    VocabularySlab slab{{}, {}, first, weights_->softcap};
    ASSIGN_OR_RETURN(slab.weights,
                     BorrowRows(*weights_->checkpoint, *weights_->output, first, count));
    if (weights_->bias.defined()) slab.bias = weights_->bias.narrow(0, first, count);
    RETURN_IF_ERROR(use(slab));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenScores>> Head::Score(absl::Span<const ScoreLane> lanes,
                                                     const RunContext& context) const {
  try {
    ComputeOnThisThread();
    std::vector<Scoring> scorings;
    for (const ScoreLane& lane : lanes) {
      scorings.emplace_back(weights_->Normed(*lane.hidden), lane.token_ids);
    }
    const std::vector<Work> work = Divide(lanes, scorings);
    RETURN_IF_ERROR(ForEachSlab(context, [&](const VocabularySlab& slab) {
      return ForEachIndex(context.threads, work.size(), [&](size_t i) {
        work[i].chunk.AddGroup(slab, *work[i].reference, work[i].measured);
        return context.Check();
      });
    }));
    std::vector<TokenScores> result;
    for (size_t i = 0; i < lanes.size(); ++i) {
      const int reference = lanes[i].reference;
      result.push_back(ScoresOf(scorings[i], reference < 0 ? nullptr : &scorings[reference]));
    }
    return result;
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

absl::StatusOr<std::vector<float>> Head::LastLogits(const Matrix& hidden) const {
  try {
    ComputeOnThisThread();
    const at::Tensor last = weights_->Normed(hidden).narrow(0, hidden.rows - 1, 1);
    std::vector<float> logits;
    RETURN_IF_ERROR(ForEachSlab(RunContext{}, [&](const VocabularySlab& slab) {
      const std::vector<float> part = Values(slab.Logits(last));
      logits.insert(logits.end(), part.begin(), part.end());
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
  weights->softcap = config_->output_softcap;
  const LinearTensors output = tensors_->Output();
  ASSIGN_OR_RETURN(weights->output, checkpoint_->Find(output.weight.name));
  ASSIGN_OR_RETURN(weights->bias, LoadTensor(*checkpoint_, output.bias));
  ASSIGN_OR_RETURN(weights->norm, Norm::Load(*checkpoint_, *config_, tensors_->FinalNorm()));
  return Head(std::move(weights));
}

}  // namespace linchpin
