#include "forward/importance_tap.h"

#include <memory>

namespace linchpin {
namespace {

// Four sums side by side: an addition need not wait for the one before it.
double SumOfSquares(absl::Span<const float> values) {
  double sums[4] = {};
  const size_t whole = values.size() / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) {
    for (size_t j = 0; j < 4; ++j) {
      sums[j] += static_cast<double>(values[i + j]) * static_cast<double>(values[i + j]);
    }
  }
  for (size_t i = whole; i < values.size(); ++i) {
    sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

void ImportanceTap::OnLinearInput(const LinearInputView& view) {
  if (view.weights.empty() || view.tokens == 0) return;
  auto found = sums_.find(view.weights.front());
  if (found == sums_.end()) {
    Sums sums{{view.weights.begin(), view.weights.end()},
              std::vector<float>(static_cast<size_t>(view.channels)),
              0};
    found = sums_.emplace(std::string(view.weights.front()), std::move(sums)).first;
  }
  Sums& sums = found->second;
  for (int64_t i = 0; i < view.channels; ++i) {
    float& square = sums.squares[static_cast<size_t>(i)];
    square = static_cast<float>(static_cast<double>(square) + SumOfSquares(view.Channel(i)));
  }
  sums.tokens += view.tokens;
}

Importance ImportanceTap::Take() const {
  Importance importance;
  for (const auto& [name, sums] : sums_) {
    auto statistics = std::make_shared<InputStatistics>();
    statistics->tokens = sums.tokens;
    for (const float square : sums.squares) {
      statistics->mean_squares.push_back(square / static_cast<float>(sums.tokens));
    }
    for (const std::string& weight : sums.weights) importance[weight] = statistics;
  }
  return importance;
}

}  // namespace linchpin
