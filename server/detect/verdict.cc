#include "detect/verdict.h"

#include <algorithm>
#include <cmath>

namespace linchpin {
namespace {

bool WeightStandsBehind(const SuperActivation& activation, const Detection& detection) {
  return std::any_of(detection.super_weights.begin(), detection.super_weights.end(),
                     [&activation](const SuperWeight& weight) {
                       return weight.position.row == activation.channel;
                     });
}

bool WithoutWeight(const Detection& detection) {
  return std::any_of(detection.super_activations.begin(), detection.super_activations.end(),
                     [&detection](const SuperActivation& activation) {
                       return !WeightStandsBehind(activation, detection);
                     });
}

// What the rules hold against their ratios.
struct Effect {
  double ratio = 1;
  double low = 1;
};

Effect EffectOf(const ProofArm& arm, TokenOrigin origin) {
  if (origin == TokenOrigin::kBuiltInIds) return {std::exp(arm.kl), std::exp(arm.kl_low)};
  return {arm.perplexity_ratio, arm.interval_low};
}

// More than the weights do one by one.
bool MatterTogether(const Proof& proof, const DetectOptions& rules) {
  double product = 1;
  for (const ProofArm& arm : proof.alone) product *= EffectOf(arm, proof.origin).ratio;
  return proof.joint && EffectOf(*proof.joint, proof.origin).ratio >= rules.joint_factor * product;
}

WeightClass ClassOf(const Effect& alone, bool together, const DetectOptions& rules) {
  if (alone.ratio >= rules.critical_ratio && alone.low > rules.critical_interval) {
    return WeightClass::kCritical;
  }
  return together ? WeightClass::kJoint : WeightClass::kInert;
}

Verdict VerdictOf(const Detection& detection) {
  const auto count = [&detection](WeightClass wanted) {
    return std::count_if(
        detection.super_weights.begin(), detection.super_weights.end(),
        [wanted](const SuperWeight& weight) { return weight.weight_class == wanted; });
  };
  const auto critical = count(WeightClass::kCritical);
  const auto joint = count(WeightClass::kJoint);
  if (critical == 0) {
    return joint > 0 || WithoutWeight(detection) ? Verdict::kDistributed : Verdict::kNone;
  }
  return critical + joint == 1 ? Verdict::kSingle : Verdict::kSeveral;
}

}  // namespace

void Judge(Detection& detection) {
  if (!detection.proof) return;
  const bool together = MatterTogether(*detection.proof, detection.options);
  for (size_t i = 0; i < detection.super_weights.size(); ++i) {
    detection.super_weights[i].weight_class = ClassOf(
        EffectOf(detection.proof->alone[i], detection.proof->origin), together, detection.options);
  }
  detection.verdict = VerdictOf(detection);
}

}  // namespace linchpin
