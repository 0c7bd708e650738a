#include "detect/decomposition.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "detect/magnitude.h"
#include "forward/layer_tensors.h"

namespace linchpin {
namespace {

struct Contribution {
  InputElement input;
  int input_rank = 0;  // 0 = the token's largest
  float weight = 0;
  float share = 0;  // of the output; signed
};

// Products of the token's largest inputs, by falling share.
std::vector<Contribution> Contributions(const std::vector<InputElement>& inputs,
                                        absl::Span<const float> row, float output) {
  std::vector<Contribution> contributions;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const float weight = row[inputs[i].channel];
    contributions.push_back(
        {inputs[i], static_cast<int>(i), weight, inputs[i].value * weight / output});
  }
  std::stable_sort(contributions.begin(), contributions.end(),
                   [](const Contribution& a, const Contribution& b) { return a.share > b.share; });
  return contributions;
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

absl::StatusOr<float> BiasAt(const Checkpoint& checkpoint, std::string name, int64_t row) {
  name.replace(name.size() - 6, 6, "bias");
  if (!checkpoint.Has(name)) return 0.0F;
  ASSIGN_OR_RETURN(const StoredTensor* bias, checkpoint.Find(name));
  ASSIGN_OR_RETURN(const Matrix values, checkpoint.ReadRows(*bias, 0, 1));
  // A bias that the config does not know of was checked by nobody.
  return std::cmp_less(row, values.data.size()) ? values.data[row] : 0.0F;
}

int64_t RankLimit(const StoredTensor& tensor, const DetectOptions& options) {
  const auto elements = static_cast<float>(tensor.info.shape[0] * tensor.info.shape[1]);
  const auto part = static_cast<int64_t>(options.top_weight_fraction * elements);
  return std::min(options.top_weights, std::max<int64_t>(1, part));
}

}  // namespace

absl::StatusOr<Decomposition> Decompose(const Checkpoint& checkpoint, const Trace& trace,
                                        absl::Span<const DownProjEdit> edits,
                                        const SuperActivation& activation,
                                        const DetectOptions& options) {
  const auto [token, channel] = std::pair(activation.token, activation.channel);
  const LayerTrace& layer = trace.layers[activation.onset_layer];
  const float output = layer.down_output.View().At(token, channel);
  const float jump = trace.After(activation.onset_layer).View().At(token, channel) -
                     layer.hidden.View().At(token, channel);
  if (output / jump < options.min_jump) return Decomposition{Carrier::kAttention, {}};

  const std::string name = DownProjName(activation.onset_layer);
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(name));
  ASSIGN_OR_RETURN(Matrix row, checkpoint.ReadRows(*tensor, channel, 1));
  for (const DownProjEdit& edit : edits) {
    if (edit.layer == activation.onset_layer && edit.row == channel) {
      row.data[edit.column] = edit.value;
    }
  }
  const std::vector<Contribution> contributions =
      Contributions(layer.top_inputs[token], row.View().Row(0), output);
  Decomposition result;
  if (FewExplain(contributions, options)) {
    result.carrier = Carrier::kWeights;
  } else {
    ASSIGN_OR_RETURN(const float bias, BiasAt(checkpoint, name, channel));
    if (bias / output >= options.min_jump) result.carrier = Carrier::kBias;
  }
  for (const Contribution& contribution : contributions) {
    if (contribution.share < options.min_share || contribution.share > options.explain_high ||
        contribution.input_rank >= options.top_inputs) {
      continue;
    }
    ASSIGN_OR_RETURN(const int64_t rank, MagnitudeRank(checkpoint, *tensor, contribution.weight));
    if (rank > RankLimit(*tensor, options)) continue;
    result.weights.push_back({.position = {name, channel, contribution.input.channel},
                              .layer = activation.onset_layer,
                              .value = contribution.weight,
                              .token = token,
                              .input = contribution.input.value,
                              .output = output,
                              .share = contribution.share,
                              .persistence = activation.persistence,
                              .rank = rank});
  }
  return result;
}

}  // namespace linchpin
