#include "detect/weight_prior.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <tuple>
#include <utility>

#include "base/parallel.h"
#include "base/status.h"
#include "detect/mlp_names.h"
#include "detect/slabs.h"

namespace linchpin {
namespace {

// The squared length of every row, or of every column of a transposed matrix.
absl::StatusOr<std::vector<double>> SquaredLengths(const Checkpoint& checkpoint,
                                                   const StoredTensor& tensor, bool transposed) {
  std::vector<double> lengths(static_cast<size_t>(tensor.info.shape[transposed ? 1 : 0]));
  RETURN_IF_ERROR(ForEachSlab(checkpoint, tensor, [&](int64_t first, const Matrix& slab) {
    for (int64_t i = 0; i < slab.rows; ++i) {
      for (int64_t j = 0; j < slab.columns; ++j) {
        const double value = slab.View().At(i, j);
        lengths[static_cast<size_t>(transposed ? j : first + i)] += value * value;
      }
    }
  }));
  return lengths;
}

// |gate_i|^2 |up_i|^2 of every neuron.
absl::StatusOr<std::vector<double>> NeuronScales(const Checkpoint& checkpoint,
                                                 const NamedMlp& mlp) {
  const bool turned = mlp.transposed;
  if (mlp.gate_up != nullptr) {
    ASSIGN_OR_RETURN(std::vector<double> both, SquaredLengths(checkpoint, *mlp.gate_up, turned));
    const size_t width = both.size() / 2;
    for (size_t i = 0; i < width; ++i) both[i] *= both[width + i];
    both.resize(width);
    return both;
  }
  ASSIGN_OR_RETURN(std::vector<double> scales, SquaredLengths(checkpoint, *mlp.up, turned));
  if (mlp.gate == nullptr) return scales;
  ASSIGN_OR_RETURN(const std::vector<double> gate, SquaredLengths(checkpoint, *mlp.gate, turned));
  for (size_t i = 0; i < scales.size(); ++i) scales[i] *= gate[i];
  return scales;
}

// The rows of one down_proj: U^2, and the weight that has most of it.
struct RowScores {
  struct Row {
    double squared = 0;
    double largest = 0;
    int64_t column = 0;
    float value = 0;
  };
  std::vector<double> scales;  // of the neurons
  std::vector<Row> rows;

  void Add(int64_t row, int64_t column, float value) {
    Row& sum = rows[static_cast<size_t>(row)];
    const double part = static_cast<double>(value) * value * scales[static_cast<size_t>(column)];
    sum.squared += part;
    if (part > sum.largest) {
      sum.largest = part;
      sum.column = column;
      sum.value = value;
    }
  }
  double MedianScore() const {
    std::vector<double> squares;
    for (const Row& row : rows) squares.push_back(row.squared);
    const auto middle = squares.begin() + (static_cast<int64_t>(squares.size()) - 1) / 2;
    std::nth_element(squares.begin(), middle, squares.end());
    return std::sqrt(*middle);
  }
};

absl::StatusOr<RowScores> ScoreRows(const Checkpoint& checkpoint, const NamedMlp& mlp) {
  RowScores scores;
  ASSIGN_OR_RETURN(scores.scales, NeuronScales(checkpoint, mlp));
  scores.rows.resize(static_cast<size_t>(mlp.down->info.shape[mlp.transposed ? 1 : 0]));
  RETURN_IF_ERROR(ForEachSlab(checkpoint, *mlp.down, [&](int64_t first, const Matrix& slab) {
    for (int64_t i = 0; i < slab.rows; ++i) {
      for (int64_t j = 0; j < slab.columns; ++j) {
        if (mlp.transposed) {
          scores.Add(j, first + i, slab.View().At(i, j));
        } else {
          scores.Add(first + i, j, slab.View().At(i, j));
        }
      }
    }
  }));
  const bool finite = std::all_of(scores.rows.begin(), scores.rows.end(),
                                  [](const auto& row) { return std::isfinite(row.squared); });
  if (finite) return scores;
  return Error(Reason::kNotFinite, mlp.down->info.name,
               "it or what stands before it holds a NaN or an infinite value",
               "fetch the checkpoint again");
}

bool MoreSuspicious(const Suspect& a, const Suspect& b) {
  return std::tuple(-a.over_median, a.layer, a.expert, a.position.row) <
         std::tuple(-b.over_median, b.layer, b.expert, b.position.row);
}

void KeepLargest(std::vector<Suspect>& suspects, size_t count) {
  std::sort(suspects.begin(), suspects.end(), MoreSuspicious);
  if (suspects.size() > count) suspects.resize(count);
}

absl::StatusOr<std::vector<Suspect>> SuspectsOf(const Checkpoint& checkpoint, const NamedMlp& mlp,
                                                size_t count) {
  ASSIGN_OR_RETURN(const RowScores scores, ScoreRows(checkpoint, mlp));
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
  const auto [row, column] = std::pair(weight.position.row, weight.position.column);
  const double score = scores.rows[static_cast<size_t>(row)].squared;
  weight.weight_only_rank =
      1 + std::count_if(scores.rows.begin(), scores.rows.end(),
                        [score](const RowScores::Row& other) { return other.squared > score; });
  const auto part = [&](int64_t at, float value) {
    return static_cast<double>(value) * value * scores.scales[static_cast<size_t>(at)];
  };
  const double own = part(column, weight.value);
  weight.weight_only_column_rank = 1;
  return ForEachSlab(checkpoint, *mlp.down, [&](int64_t first, const Matrix& slab) {
    if (mlp.transposed) {
      for (int64_t i = 0; i < slab.rows; ++i) {
        if (part(first + i, slab.View().At(i, row)) > own) ++weight.weight_only_column_rank;
      }
    } else if (row >= first && row < first + slab.rows) {
      for (int64_t i = 0; i < slab.columns; ++i) {
        if (part(i, slab.View().At(row - first, i)) > own) ++weight.weight_only_column_rank;
      }
    }
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
  RETURN_IF_ERROR(ForEachIndex(context.threads, mlps.size(), [&](size_t i) -> absl::Status {
    RETURN_IF_ERROR(context.Check());
    context.Report({Stage::kDetect, mlps[i].down->info.name, i, mlps.size()});
    ASSIGN_OR_RETURN(each[i], SuspectsOf(checkpoint, mlps[i], count));
    return absl::OkStatus();
  }));
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
    RETURN_IF_ERROR(context.Check());
    ASSIGN_OR_RETURN(const RowScores scores, ScoreRows(checkpoint, mlp));
    for (SuperWeight* weight : here) {
      RETURN_IF_ERROR(RankOne(checkpoint, mlp, scores, *weight));
    }
  }
  return absl::OkStatus();
}

}  // namespace linchpin
