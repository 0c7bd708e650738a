#include "forward/libtorch/scoring.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/parallel.h"
#include "forward/libtorch/compute_threads.h"

namespace linchpin {
namespace {

constexpr int64_t kPositionsAtOnce = 256;  // bounds the logits of a slab

std::vector<float> Values(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous();
  const auto* begin = flat.data_ptr<float>();
  return {begin, begin + flat.numel()};
}

}  // namespace

at::Tensor VocabularySlab::Logits(const at::Tensor& normed) const {
  at::Tensor logits = at::empty({normed.size(0), weights.rows}, at::kFloat);
  reader.MultiplyRows(weights, normed.data_ptr<float>(), normed.size(0), logits.data_ptr<float>(),
                      weights.rows);
  if (bias.defined()) logits.add_(bias);
  return softcap > 0 ? (logits / softcap).tanh() * softcap : logits;
}

Scoring::Scoring(const at::Tensor& hidden, absl::Span<const int32_t> ids, size_t watched_ids,
                 size_t head)
    : head(head) {
  const int64_t count = hidden.size(0) - 1;
  normed = hidden.narrow(0, 0, count).contiguous();
  targets = at::empty({count}, at::kLong);
  std::copy(ids.begin() + 1, ids.end(), targets.data_ptr<int64_t>());
  top = at::full({count}, -std::numeric_limits<float>::infinity());
  mass = at::zeros({count});
  chosen = at::zeros({count});
  distance = at::zeros({count});
  watched = at::zeros({count, static_cast<int64_t>(watched_ids)});
}

TokenScores Scoring::Scores(const Scoring* reference) const {
  TokenScores scores;
  scores.losses = Values(LogSum() - chosen);
  scores.watched = Values((watched - LogSum().unsqueeze(1)).exp().sum(0));
  if (reference != nullptr) {
    scores.divergences = Values(distance / reference->mass + LogSum() - reference->LogSum());
  }
  return scores;
}

Scorings::Scorings(std::vector<Scoring> of, absl::Span<const ScoreLane> lanes,
                   absl::Span<const int32_t> watched)
    : scorings_(std::move(of)), watched_(watched.begin(), watched.end()) {
  for (const ScoreLane& lane : lanes) references_.push_back(lane.reference);
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (references_[i] >= 0) continue;
    std::vector<Scoring*> measured;
    for (size_t j = 0; j < lanes.size(); ++j) {
      if (references_[j] == static_cast<int>(i)) measured.push_back(&scorings_[j]);
    }
    const int64_t positions = scorings_[i].normed.size(0);
    for (int64_t begin = 0; begin < positions; begin += kPositionsAtOnce) {
      pieces_.push_back(
          {&scorings_[i], measured, begin, std::min(kPositionsAtOnce, positions - begin)});
    }
  }
}

at::Tensor Scorings::AddLogits(const at::Tensor& logits, int64_t first, const Piece& piece,
                               Scoring& lane) const {
  at::Tensor top = piece.Of(lane.top);
  at::Tensor mass = piece.Of(lane.mass);
  const at::Tensor higher = at::maximum(top, logits.amax(1));
  const at::Tensor kept = (top - higher).exp();
  mass.mul_(kept).add_((logits - higher.unsqueeze(1)).exp().sum(1));
  top.copy_(higher);
  const at::Tensor local = piece.Of(lane.targets) - first;
  const at::Tensor here = local.ge(0).logical_and(local.lt(logits.size(1)));
  const at::Tensor picked =
      logits.gather(1, local.clamp(0, logits.size(1) - 1).unsqueeze(1)).squeeze(1);
  at::Tensor chosen = piece.Of(lane.chosen);
  chosen.copy_(at::where(here, picked, chosen));
  for (size_t i = 0; i < watched_.size(); ++i) {
    const int64_t at = watched_[i] - first;
    if (at < 0 || at >= logits.size(1)) continue;
    piece.Of(lane.watched).select(1, static_cast<int64_t>(i)).copy_(logits.select(1, at));
  }
  return kept;
}

void Scorings::AddPiece(const std::vector<VocabularySlab>& slabs, const Piece& piece) const {
  ComputeOnThisThread();
  const auto logits_of = [&](const Scoring& lane) {
    return slabs[lane.head].Logits(piece.Of(lane.normed));
  };
  const int64_t first = slabs.front().first;
  const at::Tensor expected = logits_of(*piece.reference);
  const at::Tensor kept = AddLogits(expected, first, piece, *piece.reference);
  if (piece.measured.empty()) return;
  const at::Tensor likely = (expected - piece.Of(piece.reference->top).unsqueeze(1)).exp();
  for (Scoring* lane : piece.measured) {
    const at::Tensor logits = logits_of(*lane);
    AddLogits(logits, first, piece, *lane);
    at::Tensor distance = piece.Of(lane->distance);
    distance.mul_(kept).add_((likely * (expected - logits)).sum(1));
  }
}

absl::Status Scorings::Add(const std::vector<VocabularySlab>& slabs, const RunContext& context) {
  return ForEachIndex(context.threads, pieces_.size(), [&](size_t i) {
    AddPiece(slabs, pieces_[i]);
    return context.Check();
  });
}

std::vector<TokenScores> Scorings::Take() const {
  std::vector<TokenScores> scores;
  for (size_t i = 0; i < scorings_.size(); ++i) {
    const int reference = references_[i];
    scores.push_back(
        scorings_[i].Scores(reference < 0 ? nullptr : &scorings_[static_cast<size_t>(reference)]));
  }
  return scores;
}

}  // namespace linchpin
