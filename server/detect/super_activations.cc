#include "detect/super_activations.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

namespace linchpin {
namespace {

// The residual stream at one (token, channel), after each layer that counts.
using Course = std::vector<float>;

// The part of the layers after `at` on which the course keeps `fraction` of its
// value there, with its sign; nullopt where too few layers follow to tell.
std::optional<float> PersistenceFrom(const Course& course, size_t at, size_t min_later,
                                     float fraction) {
  const size_t later = course.size() - at - 1;
  if (later == 0 || later < min_later) return std::nullopt;
  const auto kept = std::count_if(course.begin() + static_cast<int64_t>(at) + 1, course.end(),
                                  [&](float value) { return value / course[at] >= fraction; });
  return static_cast<float>(kept) / static_cast<float>(later);
}

// The first layer of the longest run that keeps `fraction` of `peak`, the
// earliest of equals: what was made, taken back and made again began again.
size_t PlateauStart(const Course& course, float peak, float fraction) {
  size_t best = 0;
  size_t best_length = 0;
  size_t start = 0;
  for (size_t i = 0; i < course.size(); ++i) {
    if (course[i] / peak < fraction) {
      start = i + 1;
    } else if (i + 1 - start > best_length) {
      best = start;
      best_length = i + 1 - start;
    }
  }
  return best;
}

// nullopt where the course is nowhere huge, or does not stay where it is.
std::optional<SuperActivation> Judge(const Course& course, const Bar& bar, size_t min_later,
                                     const DetectOptions& options) {
  std::optional<SuperActivation> best;
  for (size_t at = 0; at < course.size(); ++at) {
    const float height = std::fabs(course[at]);
    if (height == 0 || height < options.peak_over_median * bar.medians[at] ||
        height < options.peak_over_largest * bar.largest ||
        (best && height <= std::fabs(best->peak))) {
      continue;
    }
    const auto persistence = PersistenceFrom(course, at, min_later, options.keep_fraction);
    if (!persistence || *persistence < options.keep_layers) continue;
    best = SuperActivation{.peak = course[at]};
  }
  if (!best) return best;
  const size_t onset = PlateauStart(course, best->peak, options.keep_fraction);
  best->onset_layer = static_cast<int>(onset);
  // Against the peak, not the onset's own value.
  Course plateau(course.begin() + static_cast<int64_t>(onset), course.end());
  plateau.front() = best->peak;
  best->persistence = PersistenceFrom(plateau, 0, 0, options.keep_fraction).value_or(0);
  return best;
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
  Course course(JudgedLayers(trace));
  const auto min_later = std::max<size_t>(
      1, static_cast<size_t>(options.min_later * static_cast<float>(trace.layers.size())));
  for (int64_t token = 0; token < shape.rows; ++token) {
    for (int64_t channel = 0; channel < shape.columns; ++channel) {
      for (size_t i = 0; i < course.size(); ++i) {
        course[i] = trace.After(i).View().At(token, channel);
      }
      std::optional<SuperActivation> activation = Judge(course, bar, min_later, options);
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
