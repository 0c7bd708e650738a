// Rounds quotients w / s to codes: the part of the kernels that each way of
// coding has for itself, compiled once per instruction set.
//
// Every way has `Round(d, x, code)`: the rounded value, and its code in an
// unsigned vector; and `Nearest(d, x)`: the rounded value alone, whose zero may have
// either sign.  Ties go to the even code.

// As Highway has it: read once per target.
#if defined(LINCHPIN_CODE_ROUNDING_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_CODE_ROUNDING_INL_H
#undef LINCHPIN_CODE_ROUNDING_INL_H
#else
#define LINCHPIN_CODE_ROUNDING_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Adding 1.5 x 2^23 leaves no fraction bits: the sum is rounded half to even and
// its lowest bits are the integer, in two's complement.
constexpr float kRounder = 12582912.0f;

// The nearest whole number of less than 2^22, ties to even: by the instruction that x86
// has since SSE4, for the units that add are the busy ones.
template <class D, class V>
HWY_INLINE V NearestWhole(D d, V x) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  (void)d;
  return hn::Round(x);
#else
  return hn::Sub(hn::Add(x, hn::Set(d, kRounder)), hn::Set(d, kRounder));
#endif
}

// Signed integers of `kBits`, stored with `kBias` added.
template <int kBits, int kBias>
struct IntegerCode {
  static constexpr float kLow = -static_cast<float>(1 << (kBits - 1));
  static constexpr float kHigh = -kLow - 1;
  static constexpr bool kHalfByte = kBits == 4;

  template <class D, class V, class U>
  static HWY_INLINE V Round(D d, V x, U& code) {
    const hn::RebindToUnsigned<D> du;
    const auto rounder = hn::Set(d, kRounder + static_cast<float>(kBias));
    const V clamped = hn::Min(hn::Max(x, hn::Set(d, kLow)), hn::Set(d, kHigh));
    const V shifted = hn::Add(clamped, rounder);
    code = hn::And(hn::BitCast(du, shifted), hn::Set(du, (1U << kBits) - 1));
    return hn::Sub(shifted, rounder);
  }

  template <class D, class V>
  static HWY_INLINE V Nearest(D d, V x) {
    return NearestWhole(d, hn::Min(hn::Max(x, hn::Set(d, kLow)), hn::Set(d, kHigh)));
  }
};

// F8_E4M3: up to 448, steps of 2^-9 below 2^-6.
struct Float8Code {
  static constexpr bool kHalfByte = false;

  template <class D, class V, class U>
  static HWY_INLINE V Round(D d, V x, U& code) {
    const hn::RebindToUnsigned<D> du;
    const auto sign = hn::And(hn::BitCast(du, x), hn::Set(du, 0x80000000U));
    const V size = hn::Min(hn::Abs(x), hn::Set(d, 448.0f));
    // Three bits of the fraction stay: half a step less one bit is added, and
    // that bit where the code would be odd.
    const auto bits = hn::BitCast(du, size);
    const auto odd = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1U));
    const auto cut =
        hn::AndNot(hn::Set(du, 0xfffffU), hn::Add(hn::Add(bits, hn::Set(du, 0x7ffffU)), odd));
    const auto normal_code = hn::Sub(hn::ShiftRight<20>(cut), hn::Set(du, 120U << 3));
    const V steps = hn::Add(hn::Mul(size, hn::Set(d, 512.0f)), hn::Set(d, kRounder));
    const auto small_code = hn::And(hn::BitCast(du, steps), hn::Set(du, 15U));
    const V small = hn::Mul(hn::Sub(steps, hn::Set(d, kRounder)), hn::Set(d, 1.0f / 512));
    const auto is_small = hn::Lt(size, hn::Set(d, 0x1p-6f));
    const V value = hn::IfThenElse(is_small, small, hn::BitCast(d, cut));
    const auto magnitude = hn::BitCast(
        du, hn::IfThenElse(is_small, hn::BitCast(d, small_code), hn::BitCast(d, normal_code)));
    code = hn::Or(magnitude, hn::ShiftRight<24>(sign));
    return hn::Or(value, hn::BitCast(d, sign));
  }

  template <class D, class V>
  static HWY_INLINE V Nearest(D d, V x) {
    hn::VFromD<hn::RebindToUnsigned<D>> unused;
    return Round(d, x, unused);
  }
};

using PackedInt4 = IntegerCode<4, 8>;
using PackedInt8 = IntegerCode<8, 128>;
using PlainInt8 = IntegerCode<8, 0>;

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
