#include "detect/proof.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/status.h"
#include "detect/bootstrap.h"
#include "detect/magnitude.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

using Edits = std::vector<DownProjEdit>;

constexpr size_t kUntouched = std::numeric_limits<size_t>::max();
const Edits kNoEdits;

// One window of one arm.  It has no hidden state of its own until it leaves
// the untouched model at its first edited layer.
struct ArmWindow {
  size_t arm = 0;
  size_t window = 0;
  int first_layer = 0;
  Matrix hidden;
};

int FirstLayer(const Edits& edits, int layers) {
  int first = layers;
  for (const DownProjEdit& edit : edits) first = std::min(first, edit.layer);
  return first;
}

Edits ZeroingOf(absl::Span<const SuperWeight> weights) {
  Edits edits;
  for (const SuperWeight& weight : weights) {
    edits.push_back(
        {weight.layer, weight.position.row, weight.position.column, 0.0F, weight.expert});
  }
  return edits;
}

double Mean(const std::vector<float>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return sum / static_cast<double>(std::max<size_t>(1, values.size()));
}

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

ProofArm Summarize(absl::Span<const SuperWeight> zeroed, const std::vector<float>& base,
                   const std::vector<float>& losses) {
  ProofArm arm;
  for (const SuperWeight& weight : zeroed) arm.zeroed.push_back(weight.position);
  arm.loss = Mean(losses);
  const RatioEstimate estimate = EstimateRatio(base, losses);
  arm.perplexity_ratio = estimate.ratio;
  arm.interval_low = estimate.low;
  arm.interval_high = estimate.high;
  return arm;
}

// The losses of every arm, its windows joined.
absl::StatusOr<std::vector<std::vector<float>>> LossesOf(const ForwardPass& pass,
                                                         const std::vector<TokenWindow>& windows,
                                                         const std::vector<ArmWindow>& lanes,
                                                         size_t arms, const RunContext& context) {
  ASSIGN_OR_RETURN(const Head head, pass.LoadHead());
  std::vector<ScoreLane> score_lanes;
  for (size_t at = windows.size(); at < lanes.size(); ++at) {
    const ArmWindow& lane = lanes[at];
    // An arm without edits never left the untouched model.
    const Matrix& hidden = lane.hidden.rows > 0 ? lane.hidden : lanes[lane.window].hidden;
    score_lanes.push_back({&hidden, windows[lane.window]});
  }
  ASSIGN_OR_RETURN(const std::vector<TokenScores> scores, head.Score(score_lanes, context));
  std::vector<std::vector<float>> per_arm(arms);
  for (size_t i = 0; i < scores.size(); ++i) {
    std::vector<float>& all = per_arm[i / windows.size()];
    all.insert(all.end(), scores[i].losses.begin(), scores[i].losses.end());
  }
  return per_arm;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<float>>> MeasureArms(const ForwardPass& pass,
                                                            const std::vector<TokenWindow>& windows,
                                                            const std::vector<Edits>& arms,
                                                            const RunContext& context) {
  // Every window of the untouched model is a lane; an arm adds one per window.
  std::vector<ArmWindow> lanes;
  for (size_t window = 0; window < windows.size(); ++window) {
    ASSIGN_OR_RETURN(Matrix hidden, pass.Embed(windows[window]));
    lanes.push_back({kUntouched, window, 0, std::move(hidden)});
  }
  for (size_t arm = 0; arm < arms.size(); ++arm) {
    for (size_t window = 0; window < windows.size(); ++window) {
      lanes.push_back({arm, window, FirstLayer(arms[arm], pass.layers()), {}});
    }
  }
  for (int i = 0; i < pass.layers(); ++i) {
    context.Report({Stage::kDetect, fmt::format("proof, layer {}", i),
                    static_cast<uint64_t>(i) * pass.layer_bytes(),
                    static_cast<uint64_t>(pass.layers()) * pass.layer_bytes()});
    std::vector<Lane> running;
    for (ArmWindow& lane : lanes) {
      if (lane.first_layer == i && lane.hidden.rows == 0) lane.hidden = lanes[lane.window].hidden;
      if (i < lane.first_layer) continue;
      running.push_back({&lane.hidden, lane.arm == kUntouched ? kNoEdits : arms[lane.arm]});
    }
    RETURN_IF_ERROR(pass.RunLayer(i, running, context));
  }
  return LossesOf(pass, windows, lanes, arms.size(), context);
}

absl::Status Prove(const Checkpoint& checkpoint, const ForwardPass& pass,
                   const std::vector<TokenWindow>& windows, const RunContext& context,
                   Detection& detection) {
  const std::vector<SuperWeight>& weights = detection.super_weights;
  ASSIGN_OR_RETURN(const auto null, DrawNull(checkpoint, pass, detection));
  std::vector<absl::Span<const SuperWeight>> sets = {{}};  // the untouched model first
  for (const SuperWeight& weight : weights) sets.push_back({&weight, 1});
  if (!weights.empty()) {
    sets.push_back(weights);
    sets.insert(sets.end(), null.begin(), null.end());
  }
  std::vector<Edits> arms;
  for (const auto& set : sets) arms.push_back(ZeroingOf(set));
  ASSIGN_OR_RETURN(const auto losses, MeasureArms(pass, windows, arms, context));

  Proof proof;
  proof.windows = static_cast<int>(windows.size());
  proof.tokens = static_cast<int64_t>(losses[0].size());
  proof.baseline_loss = Mean(losses[0]);
  proof.baseline_perplexity = std::exp(proof.baseline_loss);
  for (size_t i = 1; i < sets.size(); ++i) {
    const ProofArm arm = Summarize(sets[i], losses[0], losses[i]);
    if (i <= weights.size()) {
      proof.alone.push_back(arm);
    } else if (i == weights.size() + 1) {
      proof.joint = arm;
    } else {
      proof.null.push_back(arm);
    }
  }
  detection.proof = std::move(proof);
  Judge(detection);
  return absl::OkStatus();
}

void Judge(Detection& detection) {
  if (!detection.proof) return;
  const Proof& proof = *detection.proof;
  const DetectOptions& rules = detection.options;
  double product = 1;
  for (const ProofArm& arm : proof.alone) product *= arm.perplexity_ratio;
  const bool together =
      proof.joint && proof.joint->perplexity_ratio >= rules.joint_factor * product;
  int critical = 0;
  int matter = 0;
  for (size_t i = 0; i < detection.super_weights.size(); ++i) {
    const ProofArm& alone = proof.alone[i];
    WeightClass& weight_class = detection.super_weights[i].weight_class;
    weight_class = together ? WeightClass::kJoint : WeightClass::kInert;
    if (alone.perplexity_ratio >= rules.critical_ratio &&
        alone.interval_low > rules.critical_interval) {
      weight_class = WeightClass::kCritical;
      ++critical;
    }
    if (weight_class != WeightClass::kInert) ++matter;
  }
  if (matter == 0) {
    detection.verdict = Verdict::kNone;
  } else if (critical == 0) {
    detection.verdict = Verdict::kDistributed;
  } else {
    detection.verdict = matter == 1 ? Verdict::kSingle : Verdict::kSeveral;
  }
}

}  // namespace linchpin
