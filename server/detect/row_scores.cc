#include "detect/row_scores.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "detect/slabs.h"

namespace linchpin {
namespace {

// Sums of a row are taken in so many lanes, for the sake of the compiler's vectors.
constexpr size_t kLanes = 8;

double SquaredLength(absl::Span<const float> row) {
  double sums[kLanes] = {};
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double value = row[i + lane];
      sums[lane] += value * value;
    }
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  for (size_t i = whole; i < row.size(); ++i) sum += static_cast<double>(row[i]) * row[i];
  return sum;
}

// The squared length of every row, or of every column of a transposed matrix.
absl::StatusOr<std::vector<double>> SquaredLengths(const Checkpoint& checkpoint,
                                                   const StoredTensor& tensor, bool transposed,
                                                   const RunContext& context) {
  std::vector<double> lengths(static_cast<size_t>(tensor.info.shape[transposed ? 1 : 0]));
  if (!transposed) {
    const auto take = [&](int64_t first, const Matrix& slab) {
      for (int64_t i = 0; i < slab.rows; ++i) {
        lengths[static_cast<size_t>(first + i)] = SquaredLength(slab.View().Row(i));
      }
    };
    RETURN_IF_ERROR(ForEachSlab(checkpoint, tensor, context, take));
    return lengths;
  }
  RETURN_IF_ERROR(ForEachSlabInTurn(checkpoint, tensor, [&](int64_t /*first*/, const Matrix& slab) {
    for (int64_t i = 0; i < slab.rows; ++i) {
      for (int64_t j = 0; j < slab.columns; ++j) {
        const double value = slab.View().At(i, j);
        lengths[static_cast<size_t>(j)] += value * value;
      }
    }
  }));
  return lengths;
}

// |gate_i|^2 |up_i|^2 of every neuron.
absl::StatusOr<std::vector<double>> NeuronScales(const Checkpoint& checkpoint, const NamedMlp& mlp,
                                                 const RunContext& context) {
  const auto lengths = [&](const StoredTensor& tensor) {
    return SquaredLengths(checkpoint, tensor, mlp.transposed, context);
  };
  if (mlp.gate_up != nullptr) {
    ASSIGN_OR_RETURN(std::vector<double> both, lengths(*mlp.gate_up));
    const size_t width = both.size() / 2;
    for (size_t i = 0; i < width; ++i) both[i] *= both[width + i];
    both.resize(width);
    return both;
  }
  ASSIGN_OR_RETURN(std::vector<double> scales, lengths(*mlp.up));
  if (mlp.gate == nullptr) return scales;
  ASSIGN_OR_RETURN(const std::vector<double> gate, lengths(*mlp.gate));
  for (size_t i = 0; i < scales.size(); ++i) scales[i] *= gate[i];
  return scales;
}

// One weight of a row that comes column by column.
void Add(int64_t row, int64_t column, float value, RowScores& scores) {
  RowScores::Row& sum = scores.rows[static_cast<size_t>(row)];
  const double part = scores.PartOf(column, value);
  sum.squared += part;
  if (part > sum.largest) {
    sum.largest = part;
    sum.column = column;
    sum.value = value;
  }
}

// All weights of a row at once.
void AddRow(int64_t row, absl::Span<const float> weights, RowScores& scores) {
  double sums[kLanes] = {};
  double largest[kLanes] = {};
  const size_t whole = weights.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double part = scores.PartOf(static_cast<int64_t>(i + lane), weights[i + lane]);
      sums[lane] += part;
      largest[lane] = part > largest[lane] ? part : largest[lane];
    }
  }
  RowScores::Row& sum = scores.rows[static_cast<size_t>(row)];
  for (const double part : sums) sum.squared += part;
  for (const double part : largest) sum.largest = std::max(sum.largest, part);
  for (size_t i = 0; i < whole && sum.largest > 0; ++i) {
    if (scores.PartOf(static_cast<int64_t>(i), weights[i]) != sum.largest) continue;
    sum.column = static_cast<int64_t>(i);
    sum.value = weights[i];
    break;
  }
  for (size_t i = whole; i < weights.size(); ++i) {
    Add(row, static_cast<int64_t>(i), weights[i], scores);
  }
}

}  // namespace

double RowScores::MedianScore() const {
  std::vector<double> squares;
  for (const Row& row : rows) squares.push_back(row.squared);
  const auto middle = squares.begin() + (static_cast<int64_t>(squares.size()) - 1) / 2;
  std::nth_element(squares.begin(), middle, squares.end());
  return std::sqrt(*middle);
}

absl::StatusOr<RowScores> ScoreRows(const Checkpoint& checkpoint, const NamedMlp& mlp,
                                    const RunContext& context) {
  RowScores scores;
  ASSIGN_OR_RETURN(scores.scales, NeuronScales(checkpoint, mlp, context));
  scores.rows.resize(static_cast<size_t>(mlp.down->info.shape[mlp.transposed ? 1 : 0]));
  if (!mlp.transposed) {
    const auto take = [&scores](int64_t first, const Matrix& slab) {
      for (int64_t i = 0; i < slab.rows; ++i) AddRow(first + i, slab.View().Row(i), scores);
    };
    RETURN_IF_ERROR(ForEachSlab(checkpoint, *mlp.down, context, take));
  } else {
    const auto add = [&scores](int64_t first, const Matrix& slab) {
      for (int64_t i = 0; i < slab.rows; ++i) {
        for (int64_t j = 0; j < slab.columns; ++j) Add(j, first + i, slab.View().At(i, j), scores);
      }
    };
    RETURN_IF_ERROR(ForEachSlabInTurn(checkpoint, *mlp.down, add));
  }
  const bool finite = std::all_of(scores.rows.begin(), scores.rows.end(),
                                  [](const auto& row) { return std::isfinite(row.squared); });
  if (finite) return scores;
  return Error(Reason::kNotFinite, mlp.down->info.name,
               "it or what stands before it holds a NaN or an infinite value",
               "fetch the checkpoint again");
}

}  // namespace linchpin
