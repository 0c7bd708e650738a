#include "client/enum_names.h"

#include <bit>
#include <cstdint>

namespace linchpin {

std::string_view NameOf(v1::Verdict verdict) {
  switch (verdict) {
    case v1::VERDICT_SINGLE:
      return "single";
    case v1::VERDICT_SEVERAL:
      return "several";
    case v1::VERDICT_DISTRIBUTED:
      return "distributed";
    case v1::VERDICT_NONE:
      return "none";
    default:
      return "unproven";
  }
}

std::string_view NameOf(v1::WeightClass weight_class) {
  switch (weight_class) {
    case v1::WEIGHT_CLASS_CRITICAL:
      return "critical";
    case v1::WEIGHT_CLASS_JOINT:
      return "joint";
    case v1::WEIGHT_CLASS_INERT:
      return "inert";
    default:
      return "unproven";
  }
}

std::string_view NameOf(v1::Preserve preserve) {
  switch (preserve) {
    case v1::PRESERVE_SCALE:
      return "scale";
    case v1::PRESERVE_NONE:
      return "none";
    default:
      return "tensor";
  }
}

bool IsExact(const v1::KeptWeight& weight) {
  return std::bit_cast<uint32_t>(weight.source_value()) ==
         std::bit_cast<uint32_t>(weight.stored_value());
}

}  // namespace linchpin
