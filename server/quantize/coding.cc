#include "quantize/coding.h"

namespace linchpin {

float Coding::full() const {
  if (kind == CodeKind::kFloat8) return 448.0F;
  return static_cast<float>((1 << bits) - 1) / 2;
}

float Coding::exact() const {
  if (kind == CodeKind::kFloat8) return 256.0F;
  return static_cast<float>(1 << (bits - 1));
}

Coding CodingOf(Scheme scheme, bool asymmetric) {
  const SchemeTraits& traits = TraitsOf(scheme);
  return {traits.codes, traits.bits, asymmetric};
}

}  // namespace linchpin
