#include "forward/lane_tokens.h"

#include <algorithm>
#include <string_view>

namespace linchpin {

void ShowInput(int layer, std::initializer_list<const LinearTensors*> linears, const at::Tensor& x,
               absl::Span<const Lane> lanes, const std::vector<TokenRange>& ranges) {
  const auto has_tap = [](const Lane& lane) { return lane.tap != nullptr; };
  if (std::none_of(lanes.begin(), lanes.end(), has_tap)) return;
  std::vector<std::string_view> weights;
  for (const LinearTensors* linear : linears) {
    if (!linear->weight.name.empty()) weights.emplace_back(linear->weight.name);
  }
  const at::Tensor input = x.contiguous();
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (!has_tap(lanes[i]) || ranges[i].count == 0) continue;
    lanes[i].tap->OnLinearInput({.layer = layer,
                                 .weights = weights,
                                 .data = input.data_ptr<float>() + ranges[i].begin,
                                 .channels = input.size(0),
                                 .tokens = ranges[i].count,
                                 .stride = input.size(1)});
  }
}

}  // namespace linchpin
