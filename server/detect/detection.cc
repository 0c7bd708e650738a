#include "detect/detection.h"

namespace linchpin {

std::string_view NameOf(WeightClass weight_class) {
  switch (weight_class) {
    case WeightClass::kCritical:
      return "critical";
    case WeightClass::kJoint:
      return "joint";
    case WeightClass::kInert:
      return "inert";
    case WeightClass::kUnproven:
      break;
  }
  return "unproven";
}

std::string_view NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSingle:
      return "single";
    case Verdict::kSeveral:
      return "several";
    case Verdict::kDistributed:
      return "distributed";
    case Verdict::kNone:
      return "none";
    case Verdict::kUnproven:
      break;
  }
  return "unproven";
}

std::string_view NameOf(ProofLevel level) {
  switch (level) {
    case ProofLevel::kJoint:
      return "joint";
    case ProofLevel::kFull:
      return "full";
    case ProofLevel::kNone:
      break;
  }
  return "none";
}

std::string_view NameOf(TokenOrigin origin) {
  switch (origin) {
    case TokenOrigin::kBuiltInText:
      return "built_in_text";
    case TokenOrigin::kBuiltInIds:
      return "built_in_ids";
    case TokenOrigin::kGiven:
      break;
  }
  return "given";
}

std::string_view NameOf(Carrier carrier) {
  switch (carrier) {
    case Carrier::kWeights:
      return "weights";
    case Carrier::kBias:
      return "bias";
    case Carrier::kAttention:
      return "attention";
    case Carrier::kNormGain:
      return "norm_gain";
    case Carrier::kMany:
      break;
  }
  return "many";
}

std::vector<PinnedWeight> PinnedWeights(const Detection& detection) {
  std::vector<PinnedWeight> pinned;
  for (const SuperWeight& weight : detection.super_weights) {
    pinned.push_back({weight.position, weight.value});
  }
  return pinned;
}

}  // namespace linchpin
