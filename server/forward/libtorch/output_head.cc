#include "forward/libtorch/output_head.h"

#include <algorithm>
#include <exception>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "forward/libtorch/compute_threads.h"
#include "forward/libtorch/projection.h"

namespace linchpin {
namespace {

constexpr int64_t kSlabElements = 4 << 20;
// Of a narrow model there would be more, and logits of them take memory, too.
constexpr int64_t kMostSlabRows = 8192;

int64_t SlabRows(int64_t hidden) {
  return std::clamp<int64_t>(kSlabElements / hidden, 1, kMostSlabRows);
}

// The head of a lane: its own, or else `head`.
const OutputHead& HeadOf(const ScoreLane& lane, const OutputHead& head) {
  return lane.head == nullptr ? head : static_cast<const OutputHead&>(lane.head->computation());
}

}  // namespace

absl::StatusOr<std::unique_ptr<const OutputHead>> OutputHead::Load(
    const ModelConfig& config, const NormTensors& norm, const LinearTensors& output,
    std::shared_ptr<const WeightReader> weights) {
  std::unique_ptr<OutputHead> head(new OutputHead);
  head->output_ = output.weight;
  head->softcap_ = config.output_softcap;
  ASSIGN_OR_RETURN(head->bias_, LoadTensor(*weights, output.bias));
  ASSIGN_OR_RETURN(head->norm_, Norm::Load(*weights, config, norm));
  head->weights_ = std::move(weights);
  return head;
}

at::Tensor OutputHead::Normed(const Matrix& hidden) const {
  at::Tensor normed = norm_(at::from_blob(const_cast<float*>(hidden.data.data()),
                                          {hidden.rows, hidden.columns}, at::kFloat));
  const LinearLens* const lens = weights_->lens();
  if (lens == nullptr || !lens->changes_inputs()) return normed;
  normed = normed.contiguous();
  auto* const values = normed.data_ptr<float>();
  const std::string_view weight[] = {output_.name};
  lens->ChangeInput({-1, LinearInput::kHead, weight, {values, hidden.rows, hidden.columns}},
                    {values, hidden.data.size()});
  return normed;
}

absl::StatusOr<VocabularySlab> OutputHead::Slab(int64_t first, int64_t count,
                                                at::Tensor& memory) const {
  VocabularySlab slab{*weights_, {}, {}, first, softcap_};
  const int64_t elements = count * hidden();
  if (!memory.defined() || memory.numel() < elements) memory = at::empty({elements}, at::kFloat);
  ASSIGN_OR_RETURN(slab.weights, weights_->ReadRows(output_, first, count, FloatsOf(memory)));
  if (bias_.defined()) slab.bias = bias_.narrow(0, first, count);
  return slab;
}

absl::StatusOr<std::vector<TokenScores>> OutputHead::Score(
    absl::Span<const ScoreLane> lanes, const RunContext& context,
    absl::Span<const int32_t> watched) const {
  try {
    ComputeOnThisThread();
    std::vector<const OutputHead*> heads = {this};
    std::vector<Scoring> of;
    for (const ScoreLane& lane : lanes) {
      const OutputHead* head = &HeadOf(lane, *this);
      auto known = std::find(heads.begin(), heads.end(), head);
      if (known == heads.end()) known = heads.insert(known, head);
      of.emplace_back(head->Normed(*lane.hidden), lane.token_ids, watched.size(),
                      static_cast<size_t>(known - heads.begin()));
    }
    Scorings scorings(std::move(of), lanes, watched);
    int64_t widest = 0;
    for (const OutputHead* head : heads) widest = std::max(widest, head->hidden());
    const int64_t step = SlabRows(widest);
    std::vector<at::Tensor> memory(heads.size());
    for (int64_t first = 0; first < vocab(); first += step) {
      RETURN_IF_ERROR(context.Check());
      const int64_t count = std::min(step, vocab() - first);
      std::vector<VocabularySlab> slabs;
      for (size_t i = 0; i < heads.size(); ++i) {
        ASSIGN_OR_RETURN(VocabularySlab slab, heads[i]->Slab(first, count, memory[i]));
        slabs.push_back(std::move(slab));
      }
      RETURN_IF_ERROR(scorings.Add(slabs, context));
    }
    return scorings.Take();
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

absl::StatusOr<std::vector<float>> OutputHead::LastLogits(const Matrix& hidden) const {
  try {
    ComputeOnThisThread();
    const at::Tensor last = Normed(hidden).narrow(0, hidden.rows - 1, 1).contiguous();
    std::vector<float> logits;
    at::Tensor memory;
    const int64_t step = SlabRows(output_.shape[1]);
    for (int64_t first = 0; first < vocab(); first += step) {
      const int64_t count = std::min(step, vocab() - first);
      ASSIGN_OR_RETURN(const VocabularySlab slab, Slab(first, count, memory));
      const at::Tensor part = slab.Logits(last);
      logits.insert(logits.end(), part.data_ptr<float>(), part.data_ptr<float>() + count);
    }
    return logits;
  } catch (const std::exception& error) {
    return Error(Reason::kInternal, "output projection", error.what());
  }
}

}  // namespace linchpin
