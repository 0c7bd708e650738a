#include "forward/libtorch/lane_tokens.h"

#include <algorithm>
#include <string_view>

namespace linchpin {

at::Tensor SeenInput(const InputPlace& place, std::initializer_list<const LinearTensors*> linears,
                     const at::Tensor& x, absl::Span<const Lane> lanes,
                     const std::vector<TokenRange>& ranges, const LinearLens* lens) {
  const bool changes = lens != nullptr && lens->changes_inputs();
  const auto has_tap = [](const Lane& lane) { return lane.tap != nullptr; };
  if (!changes && std::none_of(lanes.begin(), lanes.end(), has_tap)) return x;
  std::vector<std::string_view> weights;
  for (const LinearTensors* linear : linears) {
    if (!linear->weight.name.empty()) weights.emplace_back(linear->weight.name);
  }
  // A token's channels lie side by side already, as everywhere.
  const at::Tensor shown = x.t().contiguous();
  const at::Tensor given = changes ? shown.clone() : shown;
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (ranges[i].count == 0) continue;
    const auto rows_of = [&](const at::Tensor& all) {
      return all.data_ptr<float>() + ranges[i].begin * all.size(1);
    };
    const auto view_of = [&](const at::Tensor& all) {
      return LinearInputView{
          place.layer, place.kind, weights, {rows_of(all), ranges[i].count, all.size(1)}};
    };
    if (has_tap(lanes[i])) lanes[i].tap->OnLinearInput(view_of(shown));
    if (!changes) continue;
    lens->ChangeInput(view_of(given),
                      {rows_of(given), static_cast<size_t>(ranges[i].count * given.size(1))});
  }
  return changes ? given.t() : x;
}

}  // namespace linchpin
