#include "detect/experts.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace linchpin {
namespace {

// The quantile of sorted values, between two of them in proportion.
float Quantile(const std::vector<float>& sorted, float quantile) {
  const float at = quantile * static_cast<float>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<float>(below)) * (sorted[above] - sorted[below]);
}

std::vector<float> SortedOutputs(const std::vector<LayerRecord>& layers) {
  std::vector<float> outputs;
  for (const LayerRecord& layer : layers) {
    for (const DownProjRecord& expert : layer.experts) {
      outputs.push_back(std::fabs(expert.output.value));
    }
  }
  std::sort(outputs.begin(), outputs.end());
  return outputs;
}

std::set<int> FormingLayers(const Detection& detection) {
  std::set<int> layers;
  for (const SuperActivation& activation : detection.super_activations) {
    layers.insert(activation.onset_layer);
  }
  for (const SuperWeight& weight : detection.super_weights) layers.insert(weight.layer);
  return layers;
}

}  // namespace

void NameUnreached(int experts, LayerRecord& layer) {
  layer.unreached.clear();
  for (int expert = 0; expert < experts; ++expert) {
    const bool reached =
        std::any_of(layer.experts.begin(), layer.experts.end(),
                    [expert](const DownProjRecord& record) { return record.expert == expert; });
    if (!reached) layer.unreached.push_back(expert);
  }
}

std::vector<SuperExpert> FindSuperExperts(const Detection& detection) {
  std::vector<SuperExpert> found;
  const std::vector<float> outputs = SortedOutputs(detection.layers);
  if (outputs.empty()) return found;
  const float high = Quantile(outputs, detection.options.expert_quantile);
  const float largest = outputs.back();
  const std::set<int> forming = FormingLayers(detection);
  for (const LayerRecord& layer : detection.layers) {
    if (!forming.contains(layer.layer)) continue;
    for (const DownProjRecord& expert : layer.experts) {
      const float height = std::fabs(expert.output.value);
      if (height <= high || height <= detection.options.expert_over_largest * largest) continue;
      found.push_back({layer.layer, expert.expert, expert.output, height / largest});
    }
  }
  return found;
}

}  // namespace linchpin
