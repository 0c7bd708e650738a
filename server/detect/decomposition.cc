#include "detect/decomposition.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "detect/magnitude.h"

namespace linchpin {
namespace {

// One product c = routing weight x X[token, column] x W[row, column].
struct Contribution {
  int expert = kNoExpert;
  InputElement input;
  int input_rank = 0;  // 0 = the token's largest
  float weight = 0;
  float output = 0;  // of its down_proj at (token, row)
  float share = 0;   // of the sum over all down_projs; signed
};

// What the down_projs of a layer give at (token, channel), before any norm.
struct Products {
  std::vector<Contribution> largest;  // by falling share
  float total = 0;
  float bias = 0;                    // its part of the total
  std::vector<float> token_outputs;  // the total of every channel
};

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
    products.largest.push_back({down.expert, inputs[i], static_cast<int>(i), weight, output,
                                routed * inputs[i].value * weight});
  }
  return absl::OkStatus();
}

absl::StatusOr<Products> ProductsOf(const ForwardPass& pass, int layer, const LayerTrace& trace,
                                    absl::Span<const DownProjEdit> edits, int64_t token,
                                    int64_t channel) {
  Products products;
  for (const DownProjTrace& down : trace.down_projs) {
    RETURN_IF_ERROR(AddProducts(pass, layer, down, edits, token, channel, products));
  }
  for (Contribution& contribution : products.largest) contribution.share /= products.total;
  std::stable_sort(products.largest.begin(), products.largest.end(),
                   [](const Contribution& a, const Contribution& b) { return a.share > b.share; });
  return products;
}

// Whether some prefix of the largest products explains the output.
bool FewExplain(const std::vector<Contribution>& contributions, const DetectOptions& options) {
  float sum = 0;
  for (size_t i = 0; i < contributions.size() && std::cmp_less(i, options.max_contributors); ++i) {
    sum += contributions[i].share;
    if (sum >= options.explain_low) return sum <= options.explain_high;
  }
  return false;
}

// |value| over the median of |values|; infinite where that is 0.
float OverMedian(float value, std::vector<float> values) {
  for (float& element : values) element = std::fabs(element);
  const auto middle = values.begin() + (static_cast<int64_t>(values.size()) - 1) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return std::fabs(value) / *middle;
}

int64_t RankLimit(const StoredTensor& tensor, const DetectOptions& options) {
  const auto elements = static_cast<float>(tensor.info.shape[0] * tensor.info.shape[1]);
  const auto part = static_cast<int64_t>(options.top_weight_fraction * elements);
  return std::min(options.top_weights, std::max<int64_t>(1, part));
}

Carrier CarrierOf(const Products& products, bool gain_carries, float norm_gain,
                  const DetectOptions& options) {
  if (gain_carries) {
    return norm_gain >= options.gain_over_median ? Carrier::kNormGain : Carrier::kMany;
  }
  if (FewExplain(products.largest, options)) return Carrier::kWeights;
  return products.bias / products.total >= options.min_jump ? Carrier::kBias : Carrier::kMany;
}

}  // namespace

absl::StatusOr<Decomposition> Decompose(const Checkpoint& checkpoint, const ForwardPass& pass,
                                        const Trace& trace, absl::Span<const DownProjEdit> edits,
                                        const SuperActivation& activation, int onset,
                                        const DetectOptions& options) {
  const auto [token, channel] = std::pair(activation.token, activation.channel);
  const LayerTrace& layer = trace.layers[static_cast<size_t>(onset)];
  const float jump = trace.After(static_cast<size_t>(onset)).View().At(token, channel) -
                     layer.hidden.View().At(token, channel);
  Decomposition result;
  if (layer.mlp_added.View().At(token, channel) / jump < options.min_jump) {
    result.carrier = Carrier::kAttention;
    return result;
  }
  ASSIGN_OR_RETURN(const Products products, ProductsOf(pass, onset, layer, edits, token, channel));
  ASSIGN_OR_RETURN(const std::vector<float> gains, pass.MlpOutputGain(onset));
  if (!gains.empty()) result.norm_gain = OverMedian(gains[static_cast<size_t>(channel)], gains);
  // An ordinary output that only the norm makes huge: its weights are ordinary, too.
  const bool gain_carries = !gains.empty() && OverMedian(products.total, products.token_outputs) <
                                                  options.output_over_median;
  result.carrier = CarrierOf(products, gain_carries, result.norm_gain, options);
  if (gain_carries) return result;

  for (const Contribution& contribution : products.largest) {
    if (contribution.share < options.min_share || contribution.share > options.explain_high ||
        contribution.input_rank >= options.top_inputs) {
      continue;
    }
    const std::string name = pass.DownProj(onset, contribution.expert).weight.name;
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(name));
    ASSIGN_OR_RETURN(const int64_t rank, MagnitudeRank(checkpoint, *tensor, contribution.weight));
    if (rank > RankLimit(*tensor, options)) continue;
    result.weights.push_back({.position = {name, channel, contribution.input.channel},
                              .layer = onset,
                              .expert = contribution.expert,
                              .value = contribution.weight,
                              .token = token,
                              .input = contribution.input.value,
                              .output = contribution.output,
                              .share = contribution.share,
                              .norm_gain = result.norm_gain,
                              .persistence = activation.persistence,
                              .rank = rank});
  }
  return result;
}

}  // namespace linchpin
