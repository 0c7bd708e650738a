#include "detect/weight_prior.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <tuple>
#include <utility>

#include "base/status.h"
#include "detect/mlp_names.h"
#include "detect/row_scores.h"
#include "detect/slabs.h"

namespace linchpin {
namespace {

bool MoreSuspicious(const Suspect& a, const Suspect& b) {
  return std::tuple(-a.over_median, a.layer, a.expert, a.position.row) <
         std::tuple(-b.over_median, b.layer, b.expert, b.position.row);
}

void KeepLargest(std::vector<Suspect>& suspects, size_t count) {
  std::sort(suspects.begin(), suspects.end(), MoreSuspicious);
  if (suspects.size() > count) suspects.resize(count);
}

absl::StatusOr<std::vector<Suspect>> SuspectsOf(const Checkpoint& checkpoint, const NamedMlp& mlp,
                                                size_t count, const RunContext& context) {
  ASSIGN_OR_RETURN(const RowScores scores, ScoreRows(checkpoint, mlp, context));
  const double median = scores.MedianScore();
  std::vector<Suspect> suspects;
  for (size_t row = 0; row < scores.rows.size(); ++row) {
    const RowScores::Row& found = scores.rows[row];
    if (found.squared == 0) continue;
    const double score = std::sqrt(found.squared);
    suspects.push_back({.position = {mlp.down->info.name, static_cast<int64_t>(row), found.column},
                        .layer = mlp.layer,
                        .expert = mlp.expert,
                        .value = found.value,
                        .score = score,
                        .over_median = median > 0 ? score / median : 0,
                        .share = found.largest / found.squared});
  }
  KeepLargest(suspects, count);
  return suspects;
}

// The ranks of one weight.
absl::Status RankOne(const Checkpoint& checkpoint, const NamedMlp& mlp, const RowScores& scores,
                     SuperWeight& weight) {
  const int64_t row = weight.position.row;
  const double score = scores.rows[static_cast<size_t>(row)].squared;
  weight.weight_only_rank =
      1 + std::count_if(scores.rows.begin(), scores.rows.end(),
                        [score](const RowScores::Row& other) { return other.squared > score; });
  const double own = scores.PartOf(weight.position.column, weight.value);
  weight.weight_only_column_rank = 1;
  const auto compare = [&](int64_t at, float value) {
    if (scores.PartOf(at, value) > own) ++weight.weight_only_column_rank;
  };
  if (!mlp.transposed) {
    ASSIGN_OR_RETURN(const Matrix weights, checkpoint.ReadRows(*mlp.down, row, 1));
    for (int64_t i = 0; i < weights.columns; ++i) compare(i, weights.View().At(0, i));
    return absl::OkStatus();
  }
  return ForEachSlabInTurn(checkpoint, *mlp.down, [&](int64_t first, const Matrix& slab) {
    for (int64_t i = 0; i < slab.rows; ++i) compare(first + i, slab.View().At(i, row));
  });
}

}  // namespace

absl::StatusOr<std::vector<Suspect>> SuspectRows(const Checkpoint& checkpoint, size_t count,
                                                 const RunContext& context) {
  const std::vector<NamedMlp> mlps = FindMlps(checkpoint);
  if (mlps.empty()) {
    return Error(Reason::kFamilyUnsupported, checkpoint.path(),
                 "no tensor is called as the MLP of a known family",
                 "GetCapabilities lists the families");
  }
  std::vector<std::vector<Suspect>> each(mlps.size());
  for (size_t i = 0; i < mlps.size(); ++i) {
    context.Report({Stage::kDetect, mlps[i].down->info.name, i, mlps.size()});
    ASSIGN_OR_RETURN(each[i], SuspectsOf(checkpoint, mlps[i], count, context));
  }
  std::vector<Suspect> suspects;
  for (std::vector<Suspect>& found : each) {
    suspects.insert(suspects.end(), std::make_move_iterator(found.begin()),
                    std::make_move_iterator(found.end()));
  }
  KeepLargest(suspects, count);
  return suspects;
}

absl::Status RankByWeights(const Checkpoint& checkpoint, const RunContext& context,
                           Detection& detection) {
  if (detection.super_weights.empty()) return absl::OkStatus();
  for (const NamedMlp& mlp : FindMlps(checkpoint)) {
    std::vector<SuperWeight*> here;
    for (SuperWeight& weight : detection.super_weights) {
      if (weight.position.tensor == mlp.down->info.name) here.push_back(&weight);
    }
    if (here.empty()) continue;
    ASSIGN_OR_RETURN(const RowScores scores, ScoreRows(checkpoint, mlp, context));
    for (SuperWeight* weight : here) {
      RETURN_IF_ERROR(RankOne(checkpoint, mlp, scores, *weight));
    }
  }
  return absl::OkStatus();
}

}  // namespace linchpin
