#include "detect/products.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"

namespace linchpin {
namespace {

// What a column of the row is in this run.
void Apply(absl::Span<const DownProjEdit> edits, int layer, int expert, int64_t row,
           std::vector<float>& weights) {
  for (const DownProjEdit& edit : edits) {
    if (edit.layer == layer && edit.expert == expert && edit.row == row) {
      weights[static_cast<size_t>(edit.column)] = edit.value;
    }
  }
}

// Adds one down_proj's products to `products`, their share not yet divided by the total.
absl::Status AddProducts(const ForwardPass& pass, int layer, const DownProjTrace& down,
                         absl::Span<const DownProjEdit> edits, int64_t token, int64_t channel,
                         Products& products) {
  const auto found = std::lower_bound(down.tokens.begin(), down.tokens.end(), token);
  if (found == down.tokens.end() || *found != token) return absl::OkStatus();
  const int64_t at = found - down.tokens.begin();
  const float routed = down.weights[static_cast<size_t>(at)];
  ASSIGN_OR_RETURN(ForwardPass::DownProjRow row, pass.ReadDownProjRow(layer, down.expert, channel));
  Apply(edits, layer, down.expert, channel, row.weights);
  const float output = down.output.View().At(at, channel);
  products.total += routed * output;
  products.bias += routed * row.bias;
  products.token_outputs.resize(static_cast<size_t>(down.output.columns));
  for (int64_t i = 0; i < down.output.columns; ++i) {
    products.token_outputs[static_cast<size_t>(i)] += routed * down.output.View().At(at, i);
  }
  const std::vector<InputElement>& inputs = down.top_inputs[static_cast<size_t>(at)];
  for (size_t i = 0; i < inputs.size(); ++i) {
    const float weight = row.weights[static_cast<size_t>(inputs[i].channel)];
    products.largest.push_back({down.expert, inputs[i], static_cast<int>(i), weight, routed, output,
                                routed * inputs[i].value * weight});
  }
  return absl::OkStatus();
}

}  // namespace

float LargestTotal(const LayerTrace& trace, int64_t channel) {
  std::vector<float> totals(static_cast<size_t>(trace.hidden.rows));
  for (const DownProjTrace& down : trace.down_projs) {
    for (size_t i = 0; i < down.tokens.size(); ++i) {
      totals[static_cast<size_t>(down.tokens[i])] +=
          down.weights[i] * down.output.View().At(static_cast<int64_t>(i), channel);
    }
  }
  float largest = 0;
  for (const float total : totals) largest = std::max(largest, std::fabs(total));
  return largest;
}

absl::StatusOr<Products> ProductsOf(const ForwardPass& pass, int layer, const LayerTrace& trace,
                                    absl::Span<const DownProjEdit> edits, int64_t token,
                                    int64_t channel) {
  Products products;
  products.largest_total = LargestTotal(trace, channel);
  for (const DownProjTrace& down : trace.down_projs) {
    RETURN_IF_ERROR(AddProducts(pass, layer, down, edits, token, channel, products));
  }
  for (Contribution& contribution : products.largest) contribution.share /= products.total;
  std::stable_sort(products.largest.begin(), products.largest.end(),
                   [](const Contribution& a, const Contribution& b) { return a.share > b.share; });
  return products;
}

}  // namespace linchpin
