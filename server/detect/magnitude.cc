#include "detect/magnitude.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/status.h"
#include "detect/median.h"
#include "detect/slabs.h"

namespace linchpin {

absl::StatusOr<Standing> StandingOf(const Checkpoint& checkpoint, const LinearTensors& linear,
                                    int64_t column, float value) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(linear.weight.name));
  Standing standing{.rank = 1, .elements = tensor->info.shape[0] * tensor->info.shape[1]};
  std::vector<float> of_column;
  RETURN_IF_ERROR(ForEachSlab(checkpoint, *tensor, [&](int64_t first, const Matrix& slab) {
    standing.rank += std::count_if(slab.data.begin(), slab.data.end(),
                                   [&](float w) { return std::fabs(w) > std::fabs(value); });
    if (!linear.transposed) {
      for (int64_t row = 0; row < slab.rows; ++row) {
        of_column.push_back(slab.View().At(row, column));
      }
    } else if (column >= first && column < first + slab.rows) {
      const absl::Span<const float> row = slab.View().Row(column - first);
      of_column.assign(row.begin(), row.end());
    }
  }));
  standing.over_column =
      std::fabs(value) / MedianAbs({of_column.data(), 1, static_cast<int64_t>(of_column.size())});
  return standing;
}

absl::StatusOr<std::vector<PinnedWeight>> NearestInMagnitude(
    const Checkpoint& checkpoint, const LinearTensors& linear, float value,
    absl::Span<const WeightPosition> excluded, int count) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(linear.weight.name));
  using Candidate = std::pair<float, PinnedWeight>;  // distance, weight
  std::set<int64_t> rows;                            // as stored
  std::set<int64_t> columns;
  for (const WeightPosition& position : excluded) {
    if (position.tensor != linear.weight.name) continue;
    rows.insert(linear.transposed ? position.column : position.row);
    columns.insert(linear.transposed ? position.row : position.column);
  }
  const auto nearer = [](const Candidate& a, const Candidate& b) {
    return std::tie(a.first, a.second.position) < std::tie(b.first, b.second.position);
  };
  std::vector<Candidate> nearest;  // a heap, the farthest on top
  const auto visit = [&](int64_t first, const Matrix& slab) {
    for (int64_t row = 0; row < slab.rows; ++row) {
      if (rows.contains(first + row)) continue;
      for (int64_t column = 0; column < slab.columns; ++column) {
        const float weight = slab.View().At(row, column);
        const float distance = std::fabs(std::fabs(weight) - std::fabs(value));
        const bool full = std::cmp_equal(nearest.size(), count);
        if ((full && distance >= nearest.front().first) || columns.contains(column)) continue;
        if (full) {
          std::pop_heap(nearest.begin(), nearest.end(), nearer);
          nearest.pop_back();
        }
        nearest.push_back({distance, {{linear.weight.name, first + row, column}, weight}});
        std::push_heap(nearest.begin(), nearest.end(), nearer);
      }
    }
  };
  RETURN_IF_ERROR(ForEachSlab(checkpoint, *tensor, visit));
  std::sort_heap(nearest.begin(), nearest.end(), nearer);
  std::vector<PinnedWeight> result;
  for (Candidate& candidate : nearest) {
    WeightPosition& position = candidate.second.position;
    if (linear.transposed) std::swap(position.row, position.column);
    result.push_back(std::move(candidate.second));
  }
  return result;
}

}  // namespace linchpin
