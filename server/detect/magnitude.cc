#include "detect/magnitude.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <utility>

#include "base/status.h"

namespace linchpin {
namespace {

constexpr int64_t kSlabElements = 1 << 20;

// Calls `visit(first_row, slab)` for slabs of rows from the first to the last.
absl::Status ForEachSlab(const Checkpoint& checkpoint, const StoredTensor& tensor,
                         const std::function<void(int64_t, const Matrix&)>& visit) {
  const int64_t rows = tensor.info.shape[0];
  const int64_t step = std::max<int64_t>(1, kSlabElements / tensor.info.shape[1]);
  for (int64_t first = 0; first < rows; first += step) {
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(tensor, first, std::min(step, rows - first)));
    visit(first, slab);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> MagnitudeRank(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                      float value) {
  int64_t larger = 0;
  RETURN_IF_ERROR(ForEachSlab(checkpoint, tensor, [&](int64_t, const Matrix& slab) {
    larger += std::count_if(slab.data.begin(), slab.data.end(),
                            [&](float w) { return std::fabs(w) > std::fabs(value); });
  }));
  return larger + 1;
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
