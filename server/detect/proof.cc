#include "detect/proof.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/status.h"
#include "detect/bootstrap.h"
#include "detect/magnitude.h"
#include "detect/verdict.h"

namespace linchpin {
namespace {

// A weight and the value that an arm puts in its place.
struct Change {
  const SuperWeight* weight;
  float value = 0;
};
using Changes = std::vector<Change>;

double Mean(const std::vector<float>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum / static_cast<double>(std::max<size_t>(1, values.size()));
}

// Collects what to measure, measures it once, and hands out the results.
class Arms {
 public:
  // Returns the arm's number.
  size_t Add(Changes changes) {
    changes_.push_back(std::move(changes));
    return changes_.size() - 1;
  }

  absl::Status Measure(const ForwardPass& pass, const std::vector<TokenWindow>& windows,
                       const RunContext& context) {
    std::vector<Arm> arms;
    for (const Changes& changes : changes_) {
      std::vector<DownProjEdit>& arm = arms.emplace_back().edits;
      for (const auto& [weight, value] : changes) {
        arm.push_back(
            {weight->layer, weight->position.row, weight->position.column, value, weight->expert});
      }
    }
    ASSIGN_OR_RETURN(scores_, MeasureArms(pass, windows, arms, context));
    return absl::OkStatus();
  }

  const std::vector<float>& BaseLosses() const { return scores_.front().losses; }

  ProofArm Result(size_t number) const {
    ProofArm arm;
    for (const auto& [weight, value] : changes_[number]) {
      arm.changed.push_back({weight->position, value});
    }
    const ArmScores& scores = scores_[number];
    arm.loss = Mean(scores.losses);
    // A divergence is never negative; its sum in float32 may be, by a rounding.
    const MeanEstimate kl = EstimateMean({scores.divergences.begin(), scores.divergences.end()});
    arm.kl = std::max(0.0, kl.mean);
    arm.kl_low = std::max(0.0, kl.low);
    arm.kl_high = std::max(0.0, kl.high);
    const RatioEstimate estimate = EstimateRatio(BaseLosses(), scores.losses);
    arm.perplexity_ratio = estimate.ratio;
    arm.interval_low = estimate.low;
    arm.interval_high = estimate.high;
    return arm;
  }

  std::vector<ProofArm> Results(const std::vector<size_t>& numbers) const {
    std::vector<ProofArm> results;
    for (const size_t number : numbers) results.push_back(Result(number));
    return results;
  }

 private:
  std::vector<Changes> changes_ = {{}};  // the untouched model first
  std::vector<ArmScores> scores_;
};

// The numbers of the arms by what they show.
struct ArmNumbers {
  std::vector<size_t> alone, null, leave_one_out, mean_alone;
  size_t joint = 0;
  size_t mean_joint = 0;
};

// `draws` sets of as many weights as were found, each like its super weight in
// magnitude and of its matrix.
absl::StatusOr<std::vector<std::vector<SuperWeight>>> DrawNull(const Checkpoint& checkpoint,
                                                               const ForwardPass& pass,
                                                               const Detection& detection) {
  const int draws = detection.options.null_draws;
  std::vector<WeightPosition> taken;
  for (const SuperWeight& weight : detection.super_weights) taken.push_back(weight.position);
  std::vector<std::vector<SuperWeight>> null(draws);
  for (const SuperWeight& weight : detection.super_weights) {
    const LinearTensors down = pass.DownProj(weight.layer, weight.expert);
    ASSIGN_OR_RETURN(const std::vector<PinnedWeight> nearest,
                     NearestInMagnitude(checkpoint, down, weight.value, taken, draws));
    for (size_t i = 0; i < nearest.size(); ++i) {
      null[i].push_back({.position = nearest[i].position,
                         .layer = weight.layer,
                         .expert = weight.expert,
                         .value = nearest[i].value});
      taken.push_back(nearest[i].position);
    }
  }
  return null;
}

Changes Zeroing(const std::vector<SuperWeight>& weights, const SuperWeight* spared = nullptr) {
  Changes changes;
  for (const SuperWeight& weight : weights) {
    if (&weight != spared) changes.push_back({&weight, 0.0F});
  }
  return changes;
}

void AddJointArms(const std::vector<SuperWeight>& weights,
                  const std::vector<std::vector<SuperWeight>>& null, Arms& arms,
                  ArmNumbers& numbers) {
  for (const SuperWeight& weight : weights) numbers.alone.push_back(arms.Add({{&weight, 0.0F}}));
  numbers.joint = arms.Add(Zeroing(weights));
  for (const auto& set : null) numbers.null.push_back(arms.Add(Zeroing(set)));
}

absl::Status AddFullArms(const ForwardPass& pass, const std::vector<SuperWeight>& weights,
                         Arms& arms, ArmNumbers& numbers) {
  Changes means;
  for (const SuperWeight& weight : weights) {
    numbers.leave_one_out.push_back(arms.Add(Zeroing(weights, &weight)));
    ASSIGN_OR_RETURN(const ForwardPass::DownProjRow row,
                     pass.ReadDownProjRow(weight.layer, weight.expert, weight.position.row));
    means.push_back({&weight, static_cast<float>(Mean(row.weights))});
    numbers.mean_alone.push_back(arms.Add({means.back()}));
  }
  numbers.mean_joint = arms.Add(std::move(means));
  return absl::OkStatus();
}

}  // namespace

absl::Status Prove(const Checkpoint& checkpoint, const ForwardPass& pass, const ProofTokens& tokens,
                   ProofLevel level, const RunContext& context, Detection& detection) {
  if (level == ProofLevel::kNone) return absl::OkStatus();
  const std::vector<SuperWeight>& weights = detection.super_weights;
  const bool full = level == ProofLevel::kFull;
  ASSIGN_OR_RETURN(const auto null, DrawNull(checkpoint, pass, detection));
  Arms arms;
  ArmNumbers numbers;
  if (!weights.empty()) {
    AddJointArms(weights, null, arms, numbers);
    if (full) RETURN_IF_ERROR(AddFullArms(pass, weights, arms, numbers));
  }
  RETURN_IF_ERROR(arms.Measure(pass, tokens.windows, context));

  Proof& proof = detection.proof.emplace();
  proof.level = level;
  proof.origin = tokens.origin;
  proof.no_text_because = tokens.no_text_because;
  proof.windows = static_cast<int>(tokens.windows.size());
  proof.tokens = static_cast<int64_t>(arms.BaseLosses().size());
  proof.baseline_loss = Mean(arms.BaseLosses());
  proof.baseline_perplexity = std::exp(proof.baseline_loss);
  proof.alone = arms.Results(numbers.alone);
  if (!weights.empty()) proof.joint = arms.Result(numbers.joint);
  proof.leave_one_out = arms.Results(numbers.leave_one_out);
  proof.mean_alone = arms.Results(numbers.mean_alone);
  if (full && !weights.empty()) proof.mean_joint = arms.Result(numbers.mean_joint);
  proof.null = arms.Results(numbers.null);
  Judge(detection);
  return absl::OkStatus();
}

}  // namespace linchpin
