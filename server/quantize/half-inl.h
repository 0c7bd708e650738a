// Rounds float32 to F16 and BF16, compiled once per instruction set.  In integers: the instructions
// that some processors have for it, and their emulations, differ at the edges.

// As Highway has it: read once per target.
#if defined(LINCHPIN_HALF_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_HALF_INL_H
#undef LINCHPIN_HALF_INL_H
#else
#define LINCHPIN_HALF_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The nearest F16, ties to even, and its bits; what is too large becomes 65504.
template <class D, class V = hn::VFromD<D>, class U = hn::VFromD<hn::RebindToUnsigned<D>>>
HWY_INLINE V NearestHalf(D d, V value, U& code) {
  const hn::RebindToUnsigned<D> du;
  const U sign = hn::And(hn::BitCast(du, value), hn::Set(du, 0x80000000U));
  const V size = hn::Min(hn::Abs(value), hn::Set(d, 65504.0f));
  // Ten bits of the fraction stay: half a step less one bit is added, and that bit
  // where the fraction would be odd.
  const U bits = hn::BitCast(du, size);
  const U odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(du, 1U));
  const U cut = hn::AndNot(hn::Set(du, 0x1fffU), hn::Add(hn::Add(bits, hn::Set(du, 0xfffU)), odd));
  const U normal_code = hn::Sub(hn::ShiftRight<13>(cut), hn::Set(du, 112U << 10));
  const V steps = hn::Add(size, hn::Set(d, 0.5f));  // its last bit counts 2^-24
  const U small_code = hn::Sub(hn::BitCast(du, steps), hn::Set(du, 0x3f000000U));
  const auto is_small = hn::Lt(size, hn::Set(d, 0x1p-14f));
  const U magnitude = hn::BitCast(
      du, hn::IfThenElse(is_small, hn::BitCast(d, small_code), hn::BitCast(d, normal_code)));
  code = hn::Or(magnitude, hn::ShiftRight<16>(sign));
  const V nearest = hn::IfThenElse(is_small, hn::Sub(steps, hn::Set(d, 0.5f)), hn::BitCast(d, cut));
  return hn::Or(nearest, hn::BitCast(d, sign));
}

// The nearest BF16, ties to even, and its bits; what is too large becomes infinite.
template <class D, class V = hn::VFromD<D>, class U = hn::VFromD<hn::RebindToUnsigned<D>>>
HWY_INLINE V NearestBrain(D d, V value, U& code) {
  const hn::RebindToUnsigned<D> du;
  const U bits = hn::BitCast(du, value);
  const U odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1U));
  code = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fffU)), odd));
  return hn::BitCast(d, hn::ShiftLeft<16>(code));
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
