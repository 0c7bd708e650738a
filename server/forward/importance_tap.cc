#include "forward/importance_tap.h"

#include <memory>
#include <utility>

namespace linchpin {
namespace {

// Of every channel of `input` [tokens, channels].  Four sums each, of every fourth
// token, added up in the end: sums over many tokens lose less.
std::vector<double> SumsOfSquares(MatrixView input) {
  const auto channels = static_cast<size_t>(input.columns);
  std::vector<double> sums[4];
  for (std::vector<double>& sum : sums) sum.resize(channels);
  const int64_t whole = input.rows / 4 * 4;
  for (int64_t token = 0; token < input.rows; ++token) {
    std::vector<double>& sum = sums[token < whole ? token % 4 : 0];
    const absl::Span<const float> row = input.Row(token);
    for (size_t i = 0; i < channels; ++i) {
      sum[i] += static_cast<double>(row[i]) * static_cast<double>(row[i]);
    }
  }
  for (size_t i = 0; i < channels; ++i) {
    sums[0][i] = (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]);
  }
  return std::move(sums[0]);
}

}  // namespace

void ImportanceTap::OnLinearInput(const LinearInputView& view) {
  if (view.weights.empty() || view.input.rows == 0) return;
  auto found = sums_.find(view.weights.front());
  if (found == sums_.end()) {
    Sums sums{{view.weights.begin(), view.weights.end()},
              std::vector<float>(static_cast<size_t>(view.input.columns)),
              0};
    found = sums_.emplace(std::string(view.weights.front()), std::move(sums)).first;
  }
  Sums& sums = found->second;
  const std::vector<double> added = SumsOfSquares(view.input);
  for (size_t i = 0; i < added.size(); ++i) {
    sums.squares[i] = static_cast<float>(static_cast<double>(sums.squares[i]) + added[i]);
  }
  sums.tokens += view.input.rows;
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
