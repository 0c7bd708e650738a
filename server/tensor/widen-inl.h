// Loads of the float weight types as vectors of float32, for kernels that are
// compiled once per instruction set (Google Highway).  Exact: the same values as
// tensor/float16.h.  Included inside such a kernel's file, after hwy/highway.h.
#if defined(LINCHPIN_TENSOR_WIDEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_TENSOR_WIDEN_INL_H_
#undef LINCHPIN_TENSOR_WIDEN_INL_H_
#else
#define LINCHPIN_TENSOR_WIDEN_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// One vector of elements, which need not be aligned to it.
struct LoadF32 {
  using Raw = float;
  template <class D>
  HWY_INLINE hn::VFromD<D> operator()(D d, const float* from) const {
    return hn::LoadU(d, from);
  }
};

struct LoadBF16 {
  using Raw = uint16_t;
  template <class D>
  HWY_INLINE hn::VFromD<D> operator()(D d, const uint16_t* from) const {
    const hn::RebindToUnsigned<D> du32;
    const hn::Rebind<uint16_t, D> du16;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, from))));
  }
};

// Exact either way: by the instruction that x86 has since AVX2 (F16C), else in integers
// and one exact subtraction, as emulations differ at the edges.
struct LoadF16 {
  using Raw = uint16_t;
  template <class D>
  HWY_INLINE hn::VFromD<D> operator()(D d, const uint16_t* from) const {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
    const hn::Rebind<hwy::float16_t, D> df16;
    return hn::PromoteTo(d, hn::LoadU(df16, reinterpret_cast<const hwy::float16_t*>(from)));
#else
    const hn::RebindToUnsigned<D> du32;
    const hn::RebindToSigned<D> di32;
    const hn::Rebind<uint16_t, D> du16;
    const auto bits = hn::PromoteTo(du32, hn::LoadU(du16, from));
    const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du32, 0x8000U)));
    const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du32, 0x7fffU)));
    // An exponent of 31 becomes one of 255: infinite, or NaN.
    const auto finite = hn::Add(magnitude, hn::Set(du32, 112U << 23));
    const auto is_special = hn::Lt(hn::Set(di32, (31 << 23) - 1), hn::BitCast(di32, magnitude));
    const auto normal = hn::IfThenElse(hn::RebindMask(d, is_special),
                                       hn::BitCast(d, hn::Or(magnitude, hn::Set(du32, 255U << 23))),
                                       hn::BitCast(d, finite));
    // 2^-14 + mantissa x 2^-24, less 2^-14.
    const auto subnormal = hn::Sub(hn::BitCast(d, hn::Add(magnitude, hn::Set(du32, 113U << 23))),
                                   hn::Set(d, 0x1p-14f));
    const auto is_subnormal = hn::Lt(hn::BitCast(di32, magnitude), hn::Set(di32, 1 << 23));
    const auto value = hn::IfThenElse(hn::RebindMask(d, is_subnormal), subnormal, normal);
    return hn::Or(value, hn::BitCast(d, sign));
#endif
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif
