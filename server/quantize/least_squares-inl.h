// Scales and offsets of least squares, one group of weights per lane, compiled once per
// instruction set.
//
// What is minimized is the sum of weight x (value - what a reader gets)^2.  No sum crosses lanes:
// every instruction set gives the same numbers.

// As Highway has it: read once per target.
#if defined(LINCHPIN_LEAST_SQUARES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_LEAST_SQUARES_INL_H
#undef LINCHPIN_LEAST_SQUARES_INL_H
#else
#define LINCHPIN_LEAST_SQUARES_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "quantize/batch_kernel.h"
#include "quantize/code_rounding-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kBatch>;
using V = hn::VFromD<Floats>;

HWY_INLINE V Splat(float value) { return hn::Set(Floats(), value); }
HWY_INLINE V At(const float* lanes, int64_t i) { return hn::LoadU(Floats(), lanes + i * kBatch); }
HWY_INLINE V Rounded(V x) { return NearestWhole(Floats(), x); }

// 0 where it is not a finite number.
HWY_INLINE V QuotientOr0(V a, V b) {
  const V quotient = hn::Div(a, b);
  return hn::IfThenElseZero(hn::Eq(hn::Sub(quotient, quotient), hn::Zero(Floats())), quotient);
}

// value = scale x code + offset, and its weighted squared error.
struct Fit {
  V scale;
  V offset;
  V error;

  HWY_INLINE void Take(const Fit& other) {
    const auto better = hn::Lt(other.error, error);
    scale = hn::IfThenElse(better, other.scale, scale);
    offset = hn::IfThenElse(better, other.offset, offset);
    error = hn::IfThenElse(better, other.error, error);
  }
};

// What may become of a group.
template <bool affine>
struct Codes {
  static constexpr bool kAffine = affine;
  V low;
  V high;                   // codes
  bool below_zero = false;  // the offset, where there is one

  HWY_INLINE V CodeOf(V steps) const { return Rounded(hn::Min(hn::Max(steps, low), high)); }
  // Of a value less the base that its step was tried from, which of affine codes is
  // the least of all.
  HWY_INLINE V CodeAbove(V steps) const {
    return kAffine ? Rounded(hn::Min(steps, high)) : CodeOf(steps);
  }
};

// Sums over the values of a group, less some base, u, with weights w and codes q.  Those
// of symmetric codes do without the first and the second and `codes`.
struct Sums {
  V weight;    // w
  V above;     // w u
  V squared;   // w u u
  V codes;     // w q
  V squares;   // w q q
  V products;  // w q u

  HWY_INLINE Sums() { weight = above = squared = codes = squares = products = hn::Zero(Floats()); }

  // Without the error.
  template <class Coding>
  HWY_INLINE Fit LeastSquares(V base, const Coding& coding) const {
    const V zero = hn::Zero(Floats());
    if (!Coding::kAffine) return {QuotientOr0(products, squares), zero, zero};
    const V determinant = hn::Sub(hn::Mul(weight, squares), hn::Mul(codes, codes));
    V scale = QuotientOr0(hn::Sub(hn::Mul(weight, products), hn::Mul(above, codes)), determinant);
    V offset = hn::Add(
        base, QuotientOr0(hn::Sub(hn::Mul(squares, above), hn::Mul(codes, products)), determinant));
    if (coding.below_zero) {
      const auto beyond = hn::Gt(offset, zero);
      const V through_zero = QuotientOr0(hn::Add(products, hn::Mul(base, codes)), squares);
      scale = hn::IfThenElse(beyond, through_zero, scale);
      offset = hn::IfThenZeroElse(beyond, offset);
    }
    return {scale, offset, zero};
  }

  // Of these codes.  Much is cancelled: it tells the best of the steps, and no more.
  template <class Coding>
  HWY_INLINE V ErrorOf(const Fit& fit, V base) const {
    const V two = Splat(2.0f);
    const V of_scale =
        hn::Mul(fit.scale, hn::Sub(hn::Mul(fit.scale, squares), hn::Mul(two, products)));
    if (!Coding::kAffine) return hn::Add(squared, of_scale);
    const V offset = hn::Sub(fit.offset, base);
    const V of_offset = hn::Mul(offset, hn::Sub(hn::Mul(offset, weight), hn::Mul(two, above)));
    const V of_both = hn::Mul(two, hn::Mul(hn::Mul(fit.scale, offset), codes));
    return hn::Add(squared, hn::Add(hn::Add(of_scale, of_offset), of_both));
  }
};

// Nearest codes of a grid.
struct Rounding {
  V scale, offset, inverse;

  HWY_INLINE Rounding(V scale, V offset)
      : scale(scale), offset(offset), inverse(QuotientOr0(Splat(1.0f), scale)) {}

  HWY_INLINE V CodeOf(V value, V low, V high) const {
    const V steps = hn::Mul(hn::Sub(value, offset), inverse);
    return Rounded(hn::Min(hn::Max(steps, low), high));
  }
  HWY_INLINE V MissOf(V value, V code) const {
    return hn::Sub(value, hn::Add(hn::Mul(code, scale), offset));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
