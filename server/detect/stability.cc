#include "detect/stability.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace linchpin {
namespace {

// Sorted.
std::vector<WeightPosition> PositionsOf(const Detection& detection) {
  std::vector<WeightPosition> positions;
  for (const SuperWeight& weight : detection.super_weights) positions.push_back(weight.position);
  std::sort(positions.begin(), positions.end());
  return positions;
}

// What both have over what either has.
double Jaccard(const std::vector<WeightPosition>& a, const std::vector<WeightPosition>& b) {
  std::vector<WeightPosition> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  const size_t either = a.size() + b.size() - both.size();
  return either == 0 ? 1 : static_cast<double>(both.size()) / static_cast<double>(either);
}

}  // namespace

Detection WithStability(const std::vector<std::string>& names, std::vector<Detection> detections) {
  Stability stability;
  for (size_t i = 0; i < detections.size(); ++i) {
    stability.prompts.push_back({names[i], detections[i].prompt, PositionsOf(detections[i])});
  }
  const auto prompts = static_cast<double>(detections.size());
  double sum = 0;
  for (size_t i = 1; i < detections.size(); ++i) {
    sum += Jaccard(stability.prompts[0].found, stability.prompts[i].found);
  }
  if (detections.size() > 1) stability.agreement = sum / (prompts - 1);
  Detection result = std::move(detections.front());
  for (SuperWeight& weight : result.super_weights) {
    const auto found_by = std::count_if(
        stability.prompts.begin(), stability.prompts.end(), [&weight](const PromptRecord& prompt) {
          return std::binary_search(prompt.found.begin(), prompt.found.end(), weight.position);
        });
    weight.agreement = static_cast<double>(found_by) / prompts;
  }
  result.stability = std::move(stability);
  return result;
}

}  // namespace linchpin
