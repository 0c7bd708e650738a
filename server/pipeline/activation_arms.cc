#include "pipeline/activation_arms.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "base/status.h"
#include "pipeline/consumer_lens.h"
#include "pipeline/smoothing.h"

namespace linchpin {
namespace {

// The lower of the two middle elements, as torch.median takes it.
float Median(absl::Span<const float> values) {
  std::vector<float> sorted(values.begin(), values.end());
  const auto middle = sorted.begin() + (static_cast<int64_t>(sorted.size()) - 1) / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

bool StandsIn(const SparedActivation& spared, const LinearInputView& view) {
  if (!spared.weight.empty()) return view.weights.front() == spared.weight;
  const bool of_stream = view.kind == LinearInput::kAttention || view.kind == LinearInput::kMlp;
  return of_stream && view.layer > spared.after_layer;
}

// The element of the largest magnitude of a channel.
size_t LargestOf(const MatrixView& input, int64_t channel) {
  int64_t largest = 0;
  for (int64_t token = 1; token < input.rows; ++token) {
    if (std::fabs(input.At(token, channel)) > std::fabs(input.At(largest, channel))) {
      largest = token;
    }
  }
  return static_cast<size_t>(largest * input.columns + channel);
}

// Plain W8A8 in float32, whatever the weights are stored in.
absl::StatusOr<Plan> EightBitPlan(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(Plan plan, MakePlan(checkpoint,
                                       {.format = Format::kDense,
                                        .scheme = Scheme::kW8A8,
                                        .scale = ScaleRule::kMinMax,
                                        .preserve = Preserve::kNone},
                                       {}));
  for (PlanRow& row : plan.rows) {
    row.source.info.dtype = row.scale_dtype = row.dtype = DType::kF32;
  }
  return plan;
}

}  // namespace

std::vector<SparedActivation> SparedActivations(const Detection& detection) {
  std::vector<SparedActivation> spared;
  for (const SuperActivation& activation : detection.super_activations) {
    spared.push_back({activation.onset_layer, "", activation.channel});
  }
  for (const SuperWeight& weight : detection.super_weights) {
    spared.push_back({-1, weight.position.tensor, weight.position.column});
  }
  return spared;
}

EightBitLens::EightBitLens(Plan plan, ChannelScales smoothing, std::vector<SparedActivation> spared)
    : PlannedLens(std::move(plan), std::move(smoothing)), spared_(std::move(spared)) {}

void EightBitLens::ChangeInput(const LinearInputView& view, absl::Span<float> values) const {
  if (view.weights.empty() || QuantizedRow(view.weights.front()) == nullptr) return;
  const auto channels = static_cast<size_t>(view.input.columns);
  if (const ChannelScale* scale = ScaleOf(view.weights.front())) {
    for (size_t i = 0; i < values.size(); ++i) values[i] /= (*scale)[i % channels];
  }
  std::vector<std::pair<size_t, float>> kept;
  for (const SparedActivation& spared : spared_) {
    if (!StandsIn(spared, view)) continue;
    const size_t at = LargestOf(view.input, spared.channel);
    kept.emplace_back(at, values[at]);
  }
  const float median = kept.empty() ? 0 : Median(values);
  for (const auto& [at, value] : kept) values[at] = median;
  for (size_t first = 0; first < values.size(); first += channels) {
    RoundToken(TokenRounding::kInt8, values.subspan(first, channels));
  }
  for (const auto& [at, value] : kept) values[at] = value;
}

absl::StatusOr<std::vector<LensArm>> ActivationArms(const Checkpoint& checkpoint,
                                                    const ForwardPass& pass,
                                                    const AnalysisOptions& options,
                                                    const Detection& detection,
                                                    const RunContext& context) {
  // What no plan rounds is refused before the calibration.
  RETURN_IF_ERROR(EightBitPlan(checkpoint).status());
  ASSIGN_OR_RETURN(ChannelScales smoothing, SmoothingScales(checkpoint, pass, options.calibration,
                                                            options.smoothing, context));
  const auto arm = [&checkpoint](std::string name, ChannelScales scales,
                                 std::vector<SparedActivation> spared) {
    const auto make =
        [&checkpoint, scales = std::move(scales),
         spared = std::move(spared)]() -> absl::StatusOr<std::unique_ptr<const LinearLens>> {
      ASSIGN_OR_RETURN(Plan plan, EightBitPlan(checkpoint));
      return std::make_unique<const EightBitLens>(std::move(plan), scales, spared);
    };
    return LensArm{std::move(name), 0, make};
  };
  return std::vector<LensArm>{arm("w8a8", {}, {}), arm("smoothquant", std::move(smoothing), {}),
                              arm("super_outlier_aware", {}, SparedActivations(detection))};
}

}  // namespace linchpin
