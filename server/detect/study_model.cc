#include "detect/study_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "base/status.h"
#include "detect/outliers.h"

namespace linchpin {
namespace {

// Fine where the paper's curve is steep; 1 is the untouched model.
constexpr double kScales[] = {0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3};
constexpr size_t kFrequentTokens = 20;

std::vector<DownProjEdit> Scaled(const std::vector<SuperWeight>& weights, double scale) {
  std::vector<DownProjEdit> edits;
  for (const SuperWeight& weight : weights) {
    edits.push_back({weight.layer, weight.position.row, weight.position.column,
                     static_cast<float>(weight.value * scale), weight.expert});
  }
  return edits;
}

// Keeps the residual stream's peak after every layer, and its values at some places.
class ResidualTap : public Tap {
 public:
  explicit ResidualTap(const std::vector<SuperActivation>& activations)
      : activations_(activations), at(activations.size()) {}

  void OnResidual(int /*layer*/, MatrixView hidden) override {
    const float* const end = hidden.data + hidden.rows * hidden.columns;
    peaks.push_back(*std::max_element(
        hidden.data, end, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
    for (size_t i = 0; i < activations_.size(); ++i) {
      at[i].push_back(hidden.At(activations_[i].token, activations_[i].channel));
    }
  }

 private:
  const std::vector<SuperActivation>& activations_;

 public:
  std::vector<float> peaks;
  std::vector<std::vector<float>> at;
};

// The prompt through the untouched model and beside it through the pruned one.
absl::Status StudyPrompt(const ForwardPass& pass, const RunContext& context,
                         const Detection& detection, Study& study) {
  ASSIGN_OR_RETURN(Matrix with, pass.Embed(detection.prompt));
  Matrix without = with;
  const std::vector<DownProjEdit> zeroed = Scaled(detection.super_weights, 0);
  ResidualTap tap(detection.super_activations);
  ResidualTap pruned_tap(detection.super_activations);
  const Lane lanes[] = {{&with, {}, &tap}, {&without, zeroed, &pruned_tap}};
  for (int i = 0; i < pass.layers(); ++i) {
    RETURN_IF_ERROR(context.Check());
    RETURN_IF_ERROR(pass.RunLayer(i, lanes, context));
  }
  for (size_t i = 0; i < tap.peaks.size(); ++i) {
    const LayerRecord& record = detection.layers[i];
    study.layers.push_back({static_cast<int>(i), record.down_proj_input.value,
                            record.down_proj_output.value, tap.peaks[i], pruned_tap.peaks[i]});
  }
  for (size_t i = 0; i < detection.super_activations.size(); ++i) {
    const SuperActivation& activation = detection.super_activations[i];
    study.activations.push_back(
        {activation.token, activation.channel, tap.at[i], pruned_tap.at[i]});
  }
  return absl::OkStatus();
}

// The most frequent tokens that are to be predicted, by falling count, then by id.
std::vector<StudyToken> FrequentTokens(absl::Span<const TokenWindow> windows) {
  std::map<int32_t, int64_t> counts;
  for (const TokenWindow& window : windows) {
    for (size_t i = 1; i < window.size(); ++i) ++counts[window[i]];
  }
  std::vector<StudyToken> tokens;
  for (const auto& [id, count] : counts) tokens.push_back({id, count});
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const StudyToken& a, const StudyToken& b) { return a.count > b.count; });
  tokens.resize(std::min(tokens.size(), kFrequentTokens));
  return tokens;
}

double Mean(const std::vector<float>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum / static_cast<double>(std::max<size_t>(1, values.size()));
}

StudyQuality QualityOf(const ArmScores& arm, const ArmScores& original) {
  StudyQuality quality;
  quality.loss = Mean(arm.losses);
  quality.perplexity = std::exp(quality.loss);
  quality.perplexity_ratio = std::exp(quality.loss - Mean(original.losses));
  // Never negative; its sum in float32 may be, by a rounding.
  quality.kl = std::max(0.0, Mean(arm.divergences));
  return quality;
}

// The super weights zeroed and the super activations that they made put back.
Arm Restored(const std::vector<SuperWeight>& weights) {
  Arm arm{Scaled(weights, 0)};
  for (const SuperWeight& weight : weights) {
    arm.restored.push_back({weight.layer, weight.position.row});
  }
  return arm;
}

// The arms of a study and which of them shows what.
struct Arms {
  std::vector<Arm> arms = {{}};                   // the untouched model first
  std::vector<std::pair<double, size_t>> scales;  // scale, arm
  size_t others = 0;
  size_t restored = 0;

  size_t Add(Arm arm) {
    arms.push_back(std::move(arm));
    return arms.size() - 1;
  }
};

Arms MakeArms(const std::vector<SuperWeight>& weights, std::vector<DownProjEdit> outliers) {
  Arms arms;
  arms.others = arms.Add({std::move(outliers)});
  if (weights.empty()) return arms;
  for (const double scale : kScales) {
    arms.scales.emplace_back(scale, scale == 1 ? 0 : arms.Add({Scaled(weights, scale)}));
  }
  arms.restored = arms.Add(Restored(weights));
  return arms;
}

void FillRows(const Arms& arms, const std::vector<ArmScores>& scores, Study& study) {
  const auto add = [&](std::string name, size_t arm) {
    study.rows.push_back({std::move(name), static_cast<int64_t>(arms.arms[arm].edits.size()),
                          QualityOf(scores[arm], scores[0])});
  };
  add("original", 0);
  if (!arms.scales.empty()) add("super_weights_pruned", arms.scales.front().second);
  add("other_outliers_pruned", arms.others);
  if (!arms.scales.empty()) add("super_activations_restored", arms.restored);
}

}  // namespace

absl::Status StudyModel(const Checkpoint& checkpoint, const ForwardPass& pass,
                        absl::Span<const TokenWindow> windows, const RunContext& context,
                        Detection& detection) {
  Study study;
  RETURN_IF_ERROR(StudyPrompt(pass, context, detection, study));
  const std::vector<SuperWeight>& weights = detection.super_weights;
  ASSIGN_OR_RETURN(std::vector<DownProjEdit> outliers,
                   ZeroedOutliers(checkpoint, pass, weights, context));
  const Arms arms = MakeArms(weights, std::move(outliers));
  if (!weights.empty()) study.frequent = FrequentTokens(windows);
  std::vector<int32_t> watched;
  for (const StudyToken& token : study.frequent) watched.push_back(token.id);
  ASSIGN_OR_RETURN(const std::vector<ArmScores> scores,
                   MeasureArms(pass, windows, arms.arms, context, watched));

  study.windows = static_cast<int>(windows.size());
  study.tokens = static_cast<int64_t>(scores[0].losses.size());
  for (const auto& [scale, arm] : arms.scales) {
    study.scales.push_back({scale, QualityOf(scores[arm], scores[0])});
  }
  for (size_t i = 0; i < study.frequent.size(); ++i) {
    const size_t pruned = arms.scales.front().second;
    const auto positions = static_cast<double>(study.tokens);
    study.frequent[i].probability = scores[0].watched[i] / positions;
    study.frequent[i].probability_without = scores[pruned].watched[i] / positions;
  }
  FillRows(arms, scores, study);
  detection.study = std::move(study);
  return absl::OkStatus();
}

}  // namespace linchpin
