#include "detect/decomposition.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/status.h"
#include "detect/median.h"
#include "detect/products.h"

namespace linchpin {
namespace {

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
float OverMedian(float value, const std::vector<float>& values) {
  return std::fabs(value) / MedianAbs({values.data(), 1, static_cast<int64_t>(values.size())});
}

// Few products dominate the output, and it is not one of chance.
bool Dominates(const Contribution& contribution, const Products& products,
               const DetectOptions& options) {
  const float product = std::fabs(contribution.share * products.total);
  return contribution.share >= options.min_share && contribution.share <= options.explain_high &&
         product >= options.min_share * products.largest_total &&
         contribution.input_rank < options.top_inputs;
}

// The rank of a weight that is an outlier of its matrix and of its column, and nothing for
// another: in the column of a spiking input every weight makes large products.
absl::StatusOr<std::optional<int64_t>> RankOfOutlier(const Scene& scene,
                                                     const Contribution& contribution,
                                                     const LinearTensors& down) {
  const float weight = contribution.weight;
  ASSIGN_OR_RETURN(const std::optional<int64_t> rank,
                   scene.magnitudes.RankOf(down, weight, scene.context));
  if (!rank) return rank;
  ASSIGN_OR_RETURN(
      const float over_column,
      scene.magnitudes.OverColumn(down, contribution.input.channel, weight, scene.context));
  return over_column >= scene.options.weight_over_column ? rank : std::nullopt;
}

Carrier CarrierOf(const Products& products, bool gain_carries, float norm_gain,
                  const DetectOptions& options) {
  if (gain_carries) {
    return norm_gain >= options.gain_over_median ? Carrier::kNormGain : Carrier::kMany;
  }
  if (FewExplain(products.largest, options)) return Carrier::kWeights;
  return products.bias / products.total >= options.min_jump ? Carrier::kBias : Carrier::kMany;
}

// Whether what a layer's MLP adds at `channel` is as huge as what it adds at a super weight's row.
bool IsAsHuge(const Scene& scene, const SuperWeight& weight, int64_t channel) {
  const auto at = static_cast<size_t>(weight.layer);
  const MatrixView added = scene.trace.layers[at].mlp_added.View();
  const float height = std::fabs(added.At(weight.token, channel));
  const float own = std::fabs(added.At(weight.token, weight.position.row));
  return height >= scene.options.keep_fraction * own &&
         height >= scene.options.made_peak_over_median * scene.bar.medians[at] &&
         height >= scene.options.peak_over_largest * scene.bar.largest;
}

// A contribution at (token, channel) that dominates, unless its weight is an ordinary one.
absl::StatusOr<std::optional<SuperWeight>> Accept(const Scene& scene, const Products& products,
                                                  const Contribution& contribution, int layer,
                                                  int64_t token, int64_t channel) {
  if (!Dominates(contribution, products, scene.options)) return std::nullopt;
  const LinearTensors down = scene.pass.DownProj(layer, contribution.expert);
  ASSIGN_OR_RETURN(const std::optional<int64_t> rank, RankOfOutlier(scene, contribution, down));
  if (!rank) return std::nullopt;
  return SuperWeight{.position = {down.weight.name, channel, contribution.input.channel},
                     .layer = layer,
                     .expert = contribution.expert,
                     .value = contribution.weight,
                     .token = token,
                     .input = contribution.input.value,
                     .output = contribution.output,
                     .share = contribution.share,
                     .rank = *rank};
}

// Of the norm behind a layer's MLP at `channel`, over its median; 1 without a norm.
absl::StatusOr<float> RelativeGain(const ForwardPass& pass, int layer, int64_t channel) {
  ASSIGN_OR_RETURN(const std::vector<float> gains, pass.MlpOutputGain(layer));
  return gains.empty() ? 1.0F : OverMedian(gains[static_cast<size_t>(channel)], gains);
}

}  // namespace

absl::StatusOr<Decomposition> Decompose(const Scene& scene, const SuperActivation& activation,
                                        int layer) {
  const auto [token, channel] = std::pair(activation.token, activation.channel);
  const LayerTrace& trace = scene.trace.layers[static_cast<size_t>(layer)];
  const float jump = scene.trace.After(static_cast<size_t>(layer)).View().At(token, channel) -
                     trace.hidden.View().At(token, channel);
  Decomposition result;
  if (trace.mlp_added.View().At(token, channel) / jump < scene.options.min_jump) {
    result.carrier = Carrier::kAttention;
    return result;
  }
  ASSIGN_OR_RETURN(const Products products,
                   ProductsOf(scene.pass, layer, trace, scene.edits, token, channel));
  ASSIGN_OR_RETURN(const std::vector<float> gains, scene.pass.MlpOutputGain(layer));
  ASSIGN_OR_RETURN(result.norm_gain, RelativeGain(scene.pass, layer, channel));
  // An ordinary output that only the norm makes huge: its weights are ordinary, too.
  const bool gain_carries = !gains.empty() && OverMedian(products.total, products.token_outputs) <
                                                  scene.options.output_over_median;
  result.carrier = CarrierOf(products, gain_carries, result.norm_gain, scene.options);
  if (gain_carries) return result;
  result.by_whole_row = result.carrier == Carrier::kMany || result.carrier == Carrier::kBias;
  for (const Contribution& contribution : products.largest) {
    ASSIGN_OR_RETURN(std::optional<SuperWeight> weight,
                     Accept(scene, products, contribution, layer, token, channel));
    if (!weight) continue;
    weight->norm_gain = result.norm_gain;
    weight->persistence = activation.persistence;
    result.weights.push_back(*std::move(weight));
    result.by_whole_row = false;
  }
  return result;
}

absl::StatusOr<std::vector<SuperWeight>> Siblings(const Scene& scene, const SuperWeight& weight) {
  const LayerTrace& trace = scene.trace.layers[static_cast<size_t>(weight.layer)];
  std::vector<SuperWeight> siblings;
  for (int64_t channel = 0; channel < trace.hidden.columns; ++channel) {
    if (channel == weight.position.row || !IsAsHuge(scene, weight, channel)) continue;
    ASSIGN_OR_RETURN(const Products products, ProductsOf(scene.pass, weight.layer, trace,
                                                         scene.edits, weight.token, channel));
    for (const Contribution& contribution : products.largest) {
      if (contribution.expert != weight.expert ||
          contribution.input.channel != weight.position.column) {
        continue;
      }
      ASSIGN_OR_RETURN(std::optional<SuperWeight> sibling,
                       Accept(scene, products, contribution, weight.layer, weight.token, channel));
      if (!sibling) continue;
      ASSIGN_OR_RETURN(sibling->norm_gain, RelativeGain(scene.pass, weight.layer, channel));
      sibling->persistence = PersistenceOf(scene.trace, weight.layer, weight.token, channel,
                                           scene.options.keep_fraction);
      siblings.push_back(*std::move(sibling));
    }
  }
  return siblings;
}

}  // namespace linchpin
