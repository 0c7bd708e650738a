// The search for the scale and the offset of each group of a batch, one group per lane,
// compiled once per instruction set.
//
// It tries steps around the one that just spans a group and solves each for the least squares,
// as ggml's K types do (https://github.com/ggml-org/ggml), then rounds again to what was
// found.

// As Highway has it: read once per target.
#if defined(LINCHPIN_GROUP_FIT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_GROUP_FIT_INL_H
#undef LINCHPIN_GROUP_FIT_INL_H
#else
#define LINCHPIN_GROUP_FIT_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "quantize/least_squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

constexpr int kSteps = 8;        // tried around the spanning one (20 are no better),
constexpr float kWidth = 1.0f;   // up to so many codes more or less than span it
constexpr int kRefinements = 4;  // roundings to what was found

// Tries steps from a base on.  Nothing of a step is kept but its sums.
template <class Coding>
class Steps {
 public:
  HWY_INLINE Steps(const Batch& x, V base, const Coding& coding)
      : x_(x), base_(base), coding_(coding) {
    Sums sums;  // in registers
    for (int64_t i = 0; i < x.length; ++i) {
      const V u = hn::Sub(At(x.values, i), base);
      const V weighted = hn::Mul(At(x.weights, i), u);
      hn::StoreU(u, Floats(), u_ + i * kBatch);
      hn::StoreU(weighted, Floats(), weighted_ + i * kBatch);
      sums.weight = hn::Add(sums.weight, At(x.weights, i));
      sums.above = hn::Add(sums.above, weighted);
      sums.squared = hn::Add(sums.squared, hn::Mul(weighted, u));
    }
    constant_ = sums;
  }

  HWY_INLINE V weight() const { return constant_.weight; }

  HWY_INLINE void Try(V inverse, Fit& best) const {
    Sums sums = constant_;
    for (int64_t i = 0; i < x_.length; ++i) {
      const V code = coding_.CodeAbove(hn::Mul(At(u_, i), inverse));
      const V weighted = hn::Mul(At(x_.weights, i), code);
      if (Coding::kAffine) sums.codes = hn::Add(sums.codes, weighted);
      sums.squares = hn::Add(sums.squares, hn::Mul(weighted, code));
      sums.products = hn::Add(sums.products, hn::Mul(code, At(weighted_, i)));
    }
    Fit fit = sums.LeastSquares(base_, coding_);
    fit.error = sums.ErrorOf<Coding>(fit, base_);
    best.Take(fit);
  }

 private:
  const Batch x_;
  const V base_;
  const Coding coding_;
  Sums constant_;  // what all steps share
  HWY_ALIGN float u_[kMaxLength * kBatch];
  HWY_ALIGN float weighted_[kMaxLength * kBatch];
};

// Puts every value on its nearest code and takes the fit with its error where that is
// better.  With `kSolve` it becomes the least squares of these codes; `weight` is the
// sum of the weights.
template <bool kSolve, class Coding>
HWY_INLINE void Judge(const Batch& x, V weight, const Coding& coding, Fit& fit, Fit& best) {
  const V inverse = QuotientOr0(Splat(1.0f), fit.scale);
  Sums sums;
  sums.weight = weight;
  V error = hn::Zero(Floats());
  for (int64_t i = 0; i < x.length; ++i) {
    const V w = At(x.weights, i);
    const V u = Coding::kAffine ? hn::Sub(At(x.values, i), fit.offset) : At(x.values, i);
    const V code = coding.CodeOf(hn::Mul(u, inverse));
    const V miss = hn::Sub(u, hn::Mul(code, fit.scale));
    error = hn::Add(error, hn::Mul(w, hn::Mul(miss, miss)));
    if (!kSolve) continue;
    const V weighted = hn::Mul(w, code);
    if (Coding::kAffine) sums.above = hn::Add(sums.above, hn::Mul(w, u));
    if (Coding::kAffine) sums.codes = hn::Add(sums.codes, weighted);
    sums.squares = hn::Add(sums.squares, hn::Mul(weighted, code));
    sums.products = hn::Add(sums.products, hn::Mul(weighted, u));
  }
  // A grid of affine codes has no step below zero.
  fit.error = Coding::kAffine
                  ? hn::IfThenElse(hn::Gt(fit.scale, hn::Zero(Floats())), error, hn::Inf(Floats()))
                  : error;
  best.Take(fit);
  if (kSolve) fit = sums.LeastSquares(fit.offset, coding);
}

// From the grid that just spans a group and the best of the steps around it.
template <class Coding>
HWY_INLINE Fit BestOf(const Batch& x, V weight, Fit spanning, Fit stepped, const Coding& coding) {
  Fit best{spanning.scale, spanning.offset, hn::Inf(Floats())};
  Judge<false>(x, weight, coding, spanning, best);
  for (int i = 1; i < kRefinements; ++i) Judge<true>(x, weight, coding, stepped, best);
  Judge<false>(x, weight, coding, stepped, best);
  return best;
}

// Up to kWidth codes less or more.
HWY_INLINE V Delta(int step) {
  return Splat(kWidth * (2.0f * static_cast<float>(step) / kSteps - 1.0f));
}

// Codes [0, high].  With `below_zero` no offset is above 0.
HWY_INLINE Fit FitAffineLanes(const Batch& x, float high, bool below_zero) {
  const Codes<true> coding{hn::Zero(Floats()), Splat(high), below_zero};
  V least = At(x.values, 0);
  V greatest = least;
  for (int64_t i = 0; i < x.length; ++i) {
    least = hn::Min(least, At(x.values, i));
    greatest = hn::Max(greatest, At(x.values, i));
  }
  if (below_zero) least = hn::Min(least, hn::Zero(Floats()));
  least = hn::Add(least, hn::Zero(Floats()));  // never -0, which not all minima keep
  const V span = hn::Sub(greatest, least);
  const Fit spanning{hn::Div(span, coding.high), least, hn::Inf(Floats())};
  Fit stepped = spanning;
  const Steps<Codes<true>> steps(x, least, coding);
  for (int step = 0; step <= kSteps; ++step) {
    steps.Try(QuotientOr0(hn::Add(coding.high, Delta(step)), span), stepped);
  }
  return BestOf(x, steps.weight(), spanning, stepped, coding);
}

// Codes [low, -low - 1], no offset; a scale may be negative.
HWY_INLINE Fit FitSymmetricLanes(const Batch& x, float low) {
  const Codes<false> coding{Splat(low), Splat(-low - 1.0f)};
  const V zero = hn::Zero(Floats());
  V largest = zero;
  for (int64_t i = 0; i < x.length; ++i) {
    const V value = At(x.values, i);
    largest = hn::IfThenElse(hn::Gt(hn::Abs(value), hn::Abs(largest)), value, largest);
  }
  const Fit spanning{hn::Div(largest, coding.low), zero, hn::Inf(Floats())};
  Fit stepped = spanning;
  const Steps<Codes<false>> steps(x, zero, coding);
  for (int step = 0; step <= kSteps; ++step) {
    steps.Try(QuotientOr0(hn::Add(coding.low, Delta(step)), largest), stepped);
    steps.Try(QuotientOr0(hn::Add(coding.high, Delta(step)), largest), stepped);
  }
  return BestOf(x, steps.weight(), spanning, stepped, coding);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
