#include "detect/super_activations.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "detect/median.h"

namespace linchpin {
namespace {

// The residual stream at one (token, channel), after each layer that counts.
using Course = std::vector<float>;

// The part of the layers after `at` on which the course keeps `fraction` of its
// value there, with its sign; nullopt where too few layers follow to tell.
std::optional<float> PersistenceFrom(const Course& course, size_t at, size_t min_later,
                                     float fraction) {
  const size_t later = course.size() - at - 1;
  if (later < min_later) return std::nullopt;
  if (later == 0) return 1.0F;
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

// How many layers are evidence: of two, the last is all there is.
size_t EvidentLayers(size_t layers, size_t left_out) {
  if (layers == 2) return 2;
  return layers - std::min(layers, left_out);
}

size_t MinLater(float part, size_t layers) {
  if (part == 0) return 0;
  return std::max<size_t>(1, static_cast<size_t>(part * static_cast<float>(layers)));
}

Course CourseOver(const Trace& trace, size_t layers, int64_t token, int64_t channel) {
  Course course(layers);
  for (size_t i = 0; i < layers; ++i) course[i] = trace.After(i).View().At(token, channel);
  return course;
}

// One prompt's residual stream against the bar.
class Judging {
 public:
  Judging(const Trace& trace, const Bar& bar, const DetectOptions& options)
      : trace_(trace),
        bar_(bar),
        options_(options),
        layers_(EvidentLayers(trace.layers.size(), static_cast<size_t>(options.left_out))),
        min_later_(MinLater(options.min_later, trace.layers.size())) {}

  Course CourseOf(int64_t token, int64_t channel) const {
    return CourseOver(trace_, layers_, token, channel);
  }

  bool Stays(const Course& course, size_t at) const {
    return PersistenceFrom(course, at, min_later_, options_.keep_fraction).value_or(0) >=
           options_.keep_layers;
  }

  // Nothing between two layers takes back what the first left.
  bool KeptUntil(const Course& course, size_t from, int until) const {
    for (size_t i = from + 1; std::cmp_less(i, until); ++i) {
      if (course[i] / course[from] < options_.keep_fraction) return false;
    }
    return true;
  }

  // nullopt where the course is nowhere huge, or does not stay where it is.
  std::optional<SuperActivation> Judge(int64_t token, int64_t channel) const {
    const Course course = CourseOf(token, channel);
    std::optional<size_t> best;
    for (size_t at = 0; at < layers_; ++at) {
      if (best && std::fabs(course[at]) <= std::fabs(course[*best])) continue;
      if (MaybeHuge(course[at], at) && Stays(course, at)) best = at;
    }
    if (!best) return std::nullopt;
    SuperActivation activation{.token = token, .channel = channel, .peak = course[*best]};
    const size_t onset = PlateauStart(course, activation.peak, options_.keep_fraction);
    if (!IsHuge(activation, *best, onset)) return std::nullopt;
    activation.over_median = std::fabs(activation.peak) / bar_.medians[*best];
    activation.onset_layer = static_cast<int>(onset);
    // Against the peak, not the onset's own value.
    Course plateau(course.begin() + static_cast<int64_t>(onset), course.end());
    plateau.front() = activation.peak;
    activation.persistence = PersistenceFrom(plateau, 0, 0, options_.keep_fraction).value_or(0);
    return activation;
  }

  float Added(size_t layer, const SuperActivation& activation) const {
    return trace_.layers[layer].mlp_added.View().At(activation.token, activation.channel);
  }

 private:
  bool MaybeHuge(float value, size_t at) const {
    const float height = std::fabs(value);
    return height > 0 && height >= options_.made_peak_over_median * bar_.medians[at] &&
           height >= options_.peak_over_largest * bar_.largest;
  }
  // Huge beside everything; or large, and made by an MLP that adds nothing like it elsewhere.
  bool IsHuge(const SuperActivation& activation, size_t at, size_t onset) const {
    return std::fabs(activation.peak) >= options_.peak_over_median * bar_.medians[at] ||
           std::fabs(Added(onset, activation)) >=
               options_.made_over_median * bar_.added_medians[onset];
  }

  const Trace& trace_;
  const Bar& bar_;
  const DetectOptions& options_;
  size_t layers_;
  size_t min_later_;
};

}  // namespace

Bar FreezeBar(const Trace& trace) {
  Bar bar;
  for (const LayerTrace& layer : trace.layers) {
    bar.medians.push_back(layer.record.residual_median_abs);
    bar.added_medians.push_back(MedianAbs(layer.mlp_added.View()));
  }
  for (size_t i = 0; i < trace.layers.size() - 1; ++i) {
    bar.largest = std::max(bar.largest, std::fabs(trace.layers[i].record.residual.value));
  }
  return bar;
}

std::vector<SuperActivation> FindSuperActivations(const Trace& trace, const Bar& bar,
                                                  const DetectOptions& options) {
  std::vector<SuperActivation> found;
  const Judging judging(trace, bar, options);
  for (int64_t token = 0; token < trace.last_hidden.rows; ++token) {
    for (int64_t channel = 0; channel < trace.last_hidden.columns; ++channel) {
      if (const auto activation = judging.Judge(token, channel)) found.push_back(*activation);
    }
  }
  std::sort(found.begin(), found.end(), [](const SuperActivation& a, const SuperActivation& b) {
    return std::tuple(-std::fabs(a.peak), a.token, a.channel) <
           std::tuple(-std::fabs(b.peak), b.token, b.channel);
  });
  return found;
}

float PersistenceOf(const Trace& trace, int layer, int64_t token, int64_t channel, float fraction) {
  const auto at = static_cast<size_t>(layer);
  const size_t layers = std::max(at + 1, EvidentLayers(trace.layers.size(), 1));
  return PersistenceFrom(CourseOver(trace, layers, token, channel), at, 0, fraction).value_or(0);
}

std::vector<int> LayersThatMake(const Trace& trace, const Bar& bar,
                                const SuperActivation& activation, const DetectOptions& options) {
  std::vector<int> layers = {activation.onset_layer};
  const Judging judging(trace, bar, options);
  const Course course = judging.CourseOf(activation.token, activation.channel);
  for (size_t layer = 0; layer < course.size() && layer + 1 < trace.layers.size(); ++layer) {
    const float part = judging.Added(layer, activation) / activation.peak;
    const bool lasts = course[layer] / activation.peak >= options.min_change &&
                       judging.Stays(course, layer) &&
                       judging.KeptUntil(course, layer, activation.onset_layer);
    if (std::fabs(part) >= options.min_change && lasts &&
        static_cast<int>(layer) != activation.onset_layer) {
      layers.push_back(static_cast<int>(layer));
    }
  }
  return layers;
}

}  // namespace linchpin
