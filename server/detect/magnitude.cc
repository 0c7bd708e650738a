#include "detect/magnitude.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <mutex>
#include <set>

#include "base/status.h"
#include "detect/median.h"
#include "detect/slabs.h"

namespace linchpin {

namespace {

// The `count` largest magnitudes of what slabs, in any order and from any thread, offer.
class LargestMagnitudes {
 public:
  explicit LargestMagnitudes(size_t count) : count_(count) {}

  void Offer(absl::Span<const float> values) {
    const float bar = bar_;
    std::vector<float> above;
    for (const float value : values) {
      if (std::fabs(value) > bar) above.push_back(std::fabs(value));
    }
    const std::lock_guard lock(mutex_);
    kept_.insert(kept_.end(), above.begin(), above.end());
    Cut();
  }

  std::vector<float> Take() {
    std::sort(kept_.begin(), kept_.end(), std::greater<>());
    return std::move(kept_);
  }

 private:
  // With mutex_ held.
  void Cut() {
    if (kept_.size() <= count_) return;
    const auto last = kept_.begin() + static_cast<int64_t>(count_) - 1;
    std::nth_element(kept_.begin(), last, kept_.end(), std::greater<>());
    kept_.resize(count_);
    bar_ = kept_.back();
  }

  const size_t count_;
  std::mutex mutex_;
  std::vector<float> kept_;
  std::atomic<float> bar_ = -1;  // what is not above it cannot be among them any more
};

}  // namespace

absl::StatusOr<std::optional<int64_t>> Magnitudes::RankOf(const LinearTensors& linear, float value,
                                                          const RunContext& context) {
  auto found = largest_.find(linear.weight.name);
  if (found == largest_.end()) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint_.Find(linear.weight.name));
    const auto elements = static_cast<float>(tensor->info.shape[0] * tensor->info.shape[1]);
    const auto part = static_cast<int64_t>(options_.top_weight_fraction * elements);
    const int64_t most = std::min(options_.top_weights, std::max<int64_t>(1, part));
    LargestMagnitudes offered(static_cast<size_t>(most));
    RETURN_IF_ERROR(ForEachSlab(
        checkpoint_, *tensor, context,
        [&offered](int64_t /*first*/, const Matrix& slab) { offered.Offer(slab.data); }));
    found = largest_.emplace(linear.weight.name, offered.Take()).first;
  }
  const std::vector<float>& largest = found->second;
  const auto larger = std::count_if(largest.begin(), largest.end(),
                                    [value](float other) { return other > std::fabs(value); });
  if (std::cmp_equal(larger, largest.size())) return std::nullopt;
  return 1 + larger;
}

absl::StatusOr<float> Magnitudes::OverColumn(const LinearTensors& linear, int64_t column,
                                             float value, const RunContext& context) {
  const std::pair place(linear.weight.name, column);
  auto found = column_medians_.find(place);
  if (found == column_medians_.end()) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint_.Find(linear.weight.name));
    std::vector<float> values(static_cast<size_t>(tensor->info.shape[linear.transposed ? 1 : 0]));
    const auto take = [&](int64_t first, const Matrix& slab) {
      if (!linear.transposed) {
        for (int64_t row = 0; row < slab.rows; ++row) {
          values[static_cast<size_t>(first + row)] = slab.View().At(row, column);
        }
      } else if (column >= first && column < first + slab.rows) {
        const absl::Span<const float> row = slab.View().Row(column - first);
        std::copy(row.begin(), row.end(), values.begin());
      }
    };
    RETURN_IF_ERROR(ForEachSlab(checkpoint_, *tensor, context, take));
    const float median = MedianAbs({values.data(), 1, static_cast<int64_t>(values.size())});
    found = column_medians_.emplace(place, median).first;
  }
  return std::fabs(value) / found->second;
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
  RETURN_IF_ERROR(ForEachSlabInTurn(checkpoint, *tensor, visit));
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
