#include "detect/outliers.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "base/parallel.h"
#include "base/status.h"

namespace linchpin {
namespace {

constexpr int64_t kOneOf = 200'000;
constexpr int64_t kLeast = 10;
constexpr int64_t kMost = 7'000;
constexpr int64_t kSlabElements = 1 << 20;

struct Outlier {
  float magnitude = 0;
  DownProjEdit edit;
};

bool Larger(const Outlier& a, const Outlier& b) {
  const auto place = [](const DownProjEdit& edit) {
    return std::tie(edit.layer, edit.expert, edit.row, edit.column);
  };
  return a.magnitude != b.magnitude ? a.magnitude > b.magnitude : place(a.edit) < place(b.edit);
}

void KeepLargest(size_t count, std::vector<Outlier>& outliers) {
  if (outliers.size() <= count) return;
  std::nth_element(outliers.begin(), outliers.begin() + static_cast<int64_t>(count), outliers.end(),
                   Larger);
  outliers.resize(count);
}

// One down_proj.
struct Place {
  int layer = 0;
  int expert = kNoExpert;
  LinearTensors down;
  const StoredTensor* tensor = nullptr;
};

absl::StatusOr<std::vector<Place>> DownProjs(const Checkpoint& checkpoint,
                                             const ForwardPass& pass) {
  std::vector<Place> places;
  for (int layer = 0; layer < pass.layers(); ++layer) {
    for (int expert = kNoExpert; expert < pass.Experts(layer); ++expert) {
      Place place{layer, expert, pass.DownProj(layer, expert)};
      if (place.down.weight.name.empty()) continue;
      ASSIGN_OR_RETURN(place.tensor, checkpoint.Find(place.down.weight.name));
      places.push_back(std::move(place));
    }
  }
  return places;
}

// The `count` largest of one matrix; with some more, so that it is cut seldom.
absl::StatusOr<std::vector<Outlier>> LargestOf(const Checkpoint& checkpoint, const Place& place,
                                               size_t count, const RunContext& context) {
  const std::vector<int64_t>& shape = place.tensor->info.shape;
  const int64_t step = std::max<int64_t>(1, kSlabElements / shape[1]);
  std::vector<Outlier> largest;
  float least = 0;  // nothing smaller can be among them
  for (int64_t first = 0; first < shape[0]; first += step) {
    RETURN_IF_ERROR(context.Check());
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(*place.tensor, first, std::min(step, shape[0] - first)));
    for (int64_t i = 0; i < slab.rows * slab.columns; ++i) {
      const float magnitude = std::fabs(slab.data[static_cast<size_t>(i)]);
      if (!(magnitude >= least)) continue;
      DownProjEdit edit{place.layer, first + i / slab.columns, i % slab.columns, 0.0F,
                        place.expert};
      if (place.down.transposed) std::swap(edit.row, edit.column);
      largest.push_back({magnitude, edit});
      if (largest.size() < 2 * count + 1024) continue;
      KeepLargest(count, largest);
      const auto smallest = std::max_element(largest.begin(), largest.end(), Larger);
      least = smallest == largest.end() ? least : smallest->magnitude;
    }
  }
  KeepLargest(count, largest);
  return largest;
}

}  // namespace

absl::StatusOr<std::vector<DownProjEdit>> ZeroedOutliers(const Checkpoint& checkpoint,
                                                         const ForwardPass& pass,
                                                         const std::vector<SuperWeight>& spared,
                                                         const RunContext& context) {
  ASSIGN_OR_RETURN(const std::vector<Place> places, DownProjs(checkpoint, pass));
  int64_t weights = 0;
  for (const Place& place : places) {
    weights += ElementCount(place.tensor->info.shape).value_or(0);
  }
  const auto count = static_cast<size_t>(std::clamp(weights / kOneOf, kLeast, kMost));
  std::vector<std::vector<Outlier>> found(places.size());
  RETURN_IF_ERROR(ForEachIndex(context.threads, places.size(), [&](size_t i) -> absl::Status {
    ASSIGN_OR_RETURN(found[i], LargestOf(checkpoint, places[i], count + spared.size(), context));
    return absl::OkStatus();
  }));
  std::vector<Outlier> all;
  for (const std::vector<Outlier>& some : found) {
    for (const Outlier& outlier : some) {
      const auto is_it = [&outlier](const SuperWeight& weight) {
        const DownProjEdit& edit = outlier.edit;
        return weight.layer == edit.layer && weight.expert == edit.expert &&
               weight.position.row == edit.row && weight.position.column == edit.column;
      };
      if (std::none_of(spared.begin(), spared.end(), is_it)) all.push_back(outlier);
    }
    KeepLargest(count, all);
  }
  std::sort(all.begin(), all.end(), Larger);
  std::vector<DownProjEdit> edits;
  for (const Outlier& outlier : all) edits.push_back(outlier.edit);
  return edits;
}

}  // namespace linchpin
