#include "detect/super_activations.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

namespace linchpin {
namespace {

// The residual stream at one (token, channel), layer by layer.
struct Course {
  std::vector<float> values;  // after each layer
  size_t judged;              // layers [0, judged) count

  size_t PeakLayer() const {
    const auto end = values.begin() + static_cast<int64_t>(judged);
    return std::max_element(values.begin(), end,
                            [](float a, float b) { return std::fabs(a) < std::fabs(b); }) -
           values.begin();
  }
};

// First layer of the longest run of kept layers, the earliest of equals.
size_t PlateauStart(const std::vector<bool>& kept) {
  size_t best = 0;
  size_t best_length = 0;
  size_t start = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (!kept[i]) {
      start = i + 1;
    } else if (i + 1 - start > best_length) {
      best = start;
      best_length = i + 1 - start;
    }
  }
  return best;
}

// nullopt where the course is not huge or does not stay.
std::optional<SuperActivation> Judge(const Course& course, const Bar& bar,
                                     const DetectOptions& options) {
  const size_t at = course.PeakLayer();
  const float peak = course.values[at];
  if (std::fabs(peak) < options.peak_over_median * bar.medians[at] ||
      std::fabs(peak) < options.peak_over_largest * bar.largest) {
    return std::nullopt;
  }
  std::vector<bool> kept;
  for (size_t i = 0; i < course.judged; ++i) {
    kept.push_back(course.values[i] / peak >= options.keep_fraction);
  }
  const size_t onset = PlateauStart(kept);
  const auto later = static_cast<float>(kept.size() - onset - 1);
  if (later == 0) return std::nullopt;
  const auto stays = static_cast<float>(
      std::count(kept.begin() + static_cast<int64_t>(onset) + 1, kept.end(), true));
  if (stays < options.keep_layers * later) return std::nullopt;
  return SuperActivation{
      .peak = peak, .onset_layer = static_cast<int>(onset), .persistence = stays / later};
}

size_t JudgedLayers(const Trace& trace) {
  return trace.layers.size() == 2 ? 2 : trace.layers.size() - 1;
}

}  // namespace

Bar FreezeBar(const Trace& trace) {
  Bar bar;
  for (const LayerTrace& layer : trace.layers) {
    bar.medians.push_back(layer.record.residual_median_abs);
  }
  for (size_t i = 0; i < trace.layers.size() - 1; ++i) {
    bar.largest = std::max(bar.largest, std::fabs(trace.layers[i].record.residual.value));
  }
  return bar;
}

std::vector<SuperActivation> FindSuperActivations(const Trace& trace, const Bar& bar,
                                                  const DetectOptions& options) {
  std::vector<SuperActivation> found;
  const Matrix& shape = trace.last_hidden;
  Course course{std::vector<float>(trace.layers.size()), JudgedLayers(trace)};
  if (course.judged == 0) return found;
  for (int64_t token = 0; token < shape.rows; ++token) {
    for (int64_t channel = 0; channel < shape.columns; ++channel) {
      for (size_t i = 0; i < trace.layers.size(); ++i) {
        course.values[i] = trace.After(i).View().At(token, channel);
      }
      std::optional<SuperActivation> activation = Judge(course, bar, options);
      if (!activation) continue;
      activation->token = token;
      activation->channel = channel;
      found.push_back(*activation);
    }
  }
  std::sort(found.begin(), found.end(), [](const SuperActivation& a, const SuperActivation& b) {
    return std::tuple(-std::fabs(a.peak), a.token, a.channel) <
           std::tuple(-std::fabs(b.peak), b.token, b.channel);
  });
  return found;
}

}  // namespace linchpin
