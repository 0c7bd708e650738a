// Head: the final norm, then the output projection in slabs of vocabulary rows.
#include <ATen/ATen.h>

#include <algorithm>
#include <exception>

#include "base/status.h"
#include "fmt/format.h"
#include "forward/compute_threads.h"
#include "forward/forward_pass.h"
#include "forward/norm.h"
#include "forward/projection.h"
#include "forward/scoring.h"

namespace linchpin {

struct Head::Weights {
  const Checkpoint* checkpoint = nullptr;
  const StoredTensor* output = nullptr;
  const LinearLens* lens = nullptr;  // or null
  Norm norm;
  at::Tensor bias;  // [vocab], or undefined
  double softcap = 0;

  int64_t vocab() const { return output->info.shape[0]; }
  int64_t hidden() const { return output->info.shape[1]; }
  at::Tensor Normed(const Matrix& hidden) const {
    at::Tensor normed = norm(at::from_blob(const_cast<float*>(hidden.data.data()),
                                           {hidden.rows, hidden.columns}, at::kFloat));
    if (lens == nullptr || !lens->changes_inputs()) return normed;
    normed = normed.contiguous();
    auto* const values = normed.data_ptr<float>();
    const std::string_view weight[] = {output->info.name};
    lens->ChangeInput({-1, LinearInput::kHead, weight, {values, hidden.rows, hidden.columns}},
                      {values, hidden.data.size()});
    return normed;
  }
  // Of `count` rows from `first`, which stay in `memory`.
  absl::StatusOr<VocabularySlab> Slab(int64_t first, int64_t count, at::Tensor& memory) const {
    VocabularySlab slab{{}, {}, first, softcap};
    ASSIGN_OR_RETURN(slab.weights, ReadStoredRows(*checkpoint, *output, first, count, memory));
    if (bias.defined()) slab.bias = bias.narrow(0, first, count);
    return slab;
  }
};

namespace {

constexpr int64_t kSlabElements = 4 << 20;

int64_t SlabRows(int64_t hidden) { return std::max<int64_t>(1, kSlabElements / hidden); }

}  // namespace

Head::Head(std::unique_ptr<Weights> weights) : weights_(std::move(weights)) {}
Head::Head(Head&&) noexcept = default;
Head& Head::operator=(Head&&) noexcept = default;
Head::~Head() = default;

absl::StatusOr<std::vector<TokenScores>> Head::Score(absl::Span<const ScoreLane> lanes,
                                                     const RunContext& context,
                                                     absl::Span<const int32_t> watched) const {
  try {
    ComputeOnThisThread();
    std::vector<const Weights*> heads = {weights_.get()};
    std::vector<Scoring> of;
    for (const ScoreLane& lane : lanes) {
      const Weights* head = lane.head == nullptr ? weights_.get() : lane.head->weights_.get();
      auto known = std::find(heads.begin(), heads.end(), head);
      if (known == heads.end()) known = heads.insert(known, head);
      of.emplace_back(head->Normed(*lane.hidden), lane.token_ids, watched.size(),
                      static_cast<size_t>(known - heads.begin()));
    }
    Scorings scorings(std::move(of), lanes, watched);
    int64_t widest = 0;
    for (const Weights* head : heads) widest = std::max(widest, head->hidden());
    const int64_t step = SlabRows(widest);
    std::vector<at::Tensor> memory(heads.size());
    for (int64_t first = 0; first < weights_->vocab(); first += step) {
      RETURN_IF_ERROR(context.Check());
      const int64_t count = std::min(step, weights_->vocab() - first);
      std::vector<VocabularySlab> slabs(heads.size());
      for (size_t i = 0; i < heads.size(); ++i) {
        ASSIGN_OR_RETURN(slabs[i], heads[i]->Slab(first, count, memory[i]));
      }
      RETURN_IF_ERROR(scorings.Add(slabs, context));
    }
    return scorings.Take();
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

absl::StatusOr<std::vector<float>> Head::LastLogits(const Matrix& hidden) const {
  try {
    ComputeOnThisThread();
    const at::Tensor last = weights_->Normed(hidden).narrow(0, hidden.rows - 1, 1).contiguous();
    std::vector<float> logits;
    at::Tensor memory;
    const int64_t step = SlabRows(weights_->hidden());
    for (int64_t first = 0; first < weights_->vocab(); first += step) {
      const int64_t count = std::min(step, weights_->vocab() - first);
      ASSIGN_OR_RETURN(const VocabularySlab slab, weights_->Slab(first, count, memory));
      const at::Tensor part = slab.Logits(last);
      logits.insert(logits.end(), part.data_ptr<float>(), part.data_ptr<float>() + count);
    }
    return logits;
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

int64_t Head::vocab() const { return weights_->vocab(); }

absl::StatusOr<Head> ForwardPass::LoadHead() const {
  auto weights = std::make_unique<Head::Weights>();
  weights->checkpoint = checkpoint_;
  weights->lens = lens_;
  weights->softcap = config_->output_softcap;
  const LinearTensors output = tensors_->Output();
  ASSIGN_OR_RETURN(weights->output, checkpoint_->Find(output.weight.name));
  ASSIGN_OR_RETURN(weights->bias, LoadTensor(*checkpoint_, output.bias));
  ASSIGN_OR_RETURN(weights->norm, Norm::Load(*checkpoint_, *config_, tensors_->FinalNorm()));
  return Head(std::move(weights));
}

}  // namespace linchpin
