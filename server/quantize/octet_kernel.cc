#include "quantize/octet_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/octet_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/turn-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kOctet>;
using V = hn::VFromD<Floats>;

// Adding 1.5 x 2^23 leaves no fraction bits: the sum is rounded half to even.
constexpr float kRounder = 12582912.0f;
constexpr int kSteps = 8;        // tried around the spanning one (20 are no better),
constexpr float kWidth = 1.0f;   // up to so many codes more or less than span it
constexpr int kRefinements = 4;  // roundings to what was found
constexpr int64_t kMaxLength = 32;

HWY_INLINE V Splat(float value) { return hn::Set(Floats(), value); }
HWY_INLINE V At(const float* lanes, int64_t i) { return hn::LoadU(Floats(), lanes + i * kOctet); }

HWY_INLINE V RoundTo(V x, V low, V high) {
  const V clamped = hn::Min(hn::Max(x, low), high);
  return hn::Sub(hn::Add(clamped, Splat(kRounder)), Splat(kRounder));
}

// 0 where it is not a finite number.
HWY_INLINE V QuotientOr0(V a, V b) {
  const V quotient = hn::Div(a, b);
  return hn::IfThenElseZero(hn::Eq(hn::Sub(quotient, quotient), hn::Zero(Floats())), quotient);
}

// Lanes of an octet from some lane on.
struct Lanes {
  const float* values;
  const float* weights;
  int64_t length;
};

HWY_INLINE Lanes From(const Octet& octet, size_t lane) {
  return {octet.values + lane, octet.weights + lane, octet.length};
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
struct Codes {
  V low;
  V high;  // codes
  bool affine = false;
  bool below_zero = false;  // the offset, where there is one

  HWY_INLINE V CodeOf(V steps) const { return RoundTo(steps, low, high); }
};

// Sums over the values of a group, less some base, u, with weights w and codes q.
struct Sums {
  V weight;    // w
  V above;     // w u
  V squared;   // w u u
  V codes;     // w q
  V squares;   // w q q
  V products;  // w q u

  HWY_INLINE Sums() { weight = above = squared = codes = squares = products = hn::Zero(Floats()); }

  // Without the error.
  Fit LeastSquares(V base, const Codes& coding) const {
    const V zero = hn::Zero(Floats());
    if (!coding.affine) return {QuotientOr0(products, squares), zero, zero};
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
  HWY_INLINE V ErrorOf(const Fit& fit, V base) const {
    const V two = Splat(2.0f);
    const V offset = hn::Sub(fit.offset, base);
    const V of_scale =
        hn::Mul(fit.scale, hn::Sub(hn::Mul(fit.scale, squares), hn::Mul(two, products)));
    const V of_offset = hn::Mul(offset, hn::Sub(hn::Mul(offset, weight), hn::Mul(two, above)));
    const V of_both = hn::Mul(two, hn::Mul(hn::Mul(fit.scale, offset), codes));
    return hn::Add(squared, hn::Add(hn::Add(of_scale, of_offset), of_both));
  }
};

// Tries steps from a base on.  Nothing of a step is kept but its sums.
class Steps {
 public:
  HWY_INLINE Steps(const Lanes& x, V base, const Codes& coding)
      : x_(x), base_(base), coding_(coding) {
    Sums sums;  // in registers
    for (int64_t i = 0; i < x.length; ++i) {
      const V u = hn::Sub(At(x.values, i), base);
      const V weighted = hn::Mul(At(x.weights, i), u);
      hn::StoreU(u, Floats(), u_ + i * kOctet);
      hn::StoreU(weighted, Floats(), weighted_ + i * kOctet);
      sums.weight = hn::Add(sums.weight, At(x.weights, i));
      sums.above = hn::Add(sums.above, weighted);
      sums.squared = hn::Add(sums.squared, hn::Mul(weighted, u));
    }
    constant_ = sums;
  }

  void Try(V inverse, Fit& best) const {
    Sums sums = constant_;
    for (int64_t i = 0; i < x_.length; ++i) {
      const V code = coding_.CodeOf(hn::Mul(At(u_, i), inverse));
      const V weighted = hn::Mul(At(x_.weights, i), code);
      sums.codes = hn::Add(sums.codes, weighted);
      sums.squares = hn::Add(sums.squares, hn::Mul(weighted, code));
      sums.products = hn::Add(sums.products, hn::Mul(code, At(weighted_, i)));
    }
    Fit fit = sums.LeastSquares(base_, coding_);
    fit.error = sums.ErrorOf(fit, base_);
    best.Take(fit);
  }

 private:
  const Lanes x_;
  const V base_;
  const Codes coding_;
  Sums constant_;  // what all steps share
  HWY_ALIGN float u_[kMaxLength * kOctet];
  HWY_ALIGN float weighted_[kMaxLength * kOctet];
};

// Puts every value on its nearest code, takes the fit with its error where that is
// better, and returns the least squares of these codes.
Fit Refine(const Lanes& x, Fit fit, const Codes& coding, Fit& best) {
  const V inverse = QuotientOr0(Splat(1.0f), fit.scale);
  Sums sums;
  V error = hn::Zero(Floats());
  for (int64_t i = 0; i < x.length; ++i) {
    const V weight = At(x.weights, i);
    const V u = hn::Sub(At(x.values, i), fit.offset);
    const V code = coding.CodeOf(hn::Mul(u, inverse));
    const V miss = hn::Sub(u, hn::Mul(code, fit.scale));
    error = hn::Add(error, hn::Mul(weight, hn::Mul(miss, miss)));
    const V weighted = hn::Mul(weight, code);
    sums.weight = hn::Add(sums.weight, weight);
    sums.above = hn::Add(sums.above, hn::Mul(weight, u));
    sums.codes = hn::Add(sums.codes, weighted);
    sums.squares = hn::Add(sums.squares, hn::Mul(weighted, code));
    sums.products = hn::Add(sums.products, hn::Mul(weighted, u));
  }
  // A grid of affine codes has no step below zero.
  fit.error = coding.affine
                  ? hn::IfThenElse(hn::Gt(fit.scale, hn::Zero(Floats())), error, hn::Inf(Floats()))
                  : error;
  best.Take(fit);
  return sums.LeastSquares(fit.offset, coding);
}

// From the grid that just spans a group and the best of the steps around it.
Fit BestOf(const Lanes& x, Fit spanning, Fit stepped, const Codes& coding) {
  Fit best{spanning.scale, spanning.offset, hn::Inf(Floats())};
  Refine(x, spanning, coding, best);
  for (int i = 0; i < kRefinements; ++i) stepped = Refine(x, stepped, coding, best);
  return best;
}

// Up to kWidth codes less or more.
HWY_INLINE V Delta(int step) {
  return Splat(kWidth * (2.0f * static_cast<float>(step) / kSteps - 1.0f));
}

Fit FitAffineLanes(const Lanes& x, float high, bool below_zero) {
  const Codes coding{hn::Zero(Floats()), Splat(high), true, below_zero};
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
  const Steps steps(x, least, coding);
  for (int step = 0; step <= kSteps; ++step) {
    steps.Try(QuotientOr0(hn::Add(coding.high, Delta(step)), span), stepped);
  }
  return BestOf(x, spanning, stepped, coding);
}

Fit FitSymmetricLanes(const Lanes& x, float low) {
  const Codes coding{Splat(low), Splat(-low - 1.0f)};
  const V zero = hn::Zero(Floats());
  V largest = zero;
  for (int64_t i = 0; i < x.length; ++i) {
    const V value = At(x.values, i);
    largest = hn::IfThenElse(hn::Gt(hn::Abs(value), hn::Abs(largest)), value, largest);
  }
  const Fit spanning{hn::Div(largest, coding.low), zero, hn::Inf(Floats())};
  Fit stepped = spanning;
  const Steps steps(x, zero, coding);
  for (int step = 0; step <= kSteps; ++step) {
    steps.Try(QuotientOr0(hn::Add(coding.low, Delta(step)), largest), stepped);
    steps.Try(QuotientOr0(hn::Add(coding.high, Delta(step)), largest), stepped);
  }
  return BestOf(x, spanning, stepped, coding);
}

void StoreGrid(const Fit& best, size_t lane, OctetGrid& grid) {
  hn::StoreU(best.scale, Floats(), grid.scale + lane);
  hn::StoreU(best.offset, Floats(), grid.offset + lane);
}

void Affine(const Octet& octet, float high, bool below_zero, OctetGrid& grid) {
  for (size_t lane = 0; lane < kOctet; lane += hn::Lanes(Floats())) {
    StoreGrid(FitAffineLanes(From(octet, lane), high, below_zero), lane, grid);
  }
}

void Symmetric(const Octet& octet, float low, OctetGrid& grid) {
  for (size_t lane = 0; lane < kOctet; lane += hn::Lanes(Floats())) {
    StoreGrid(FitSymmetricLanes(From(octet, lane), low), lane, grid);
  }
}

// Nearest codes of a grid.
struct Rounding {
  HWY_INLINE Rounding(const OctetGrid& grid, size_t lane)
      : scale(hn::LoadU(Floats(), grid.scale + lane)),
        offset(hn::LoadU(Floats(), grid.offset + lane)),
        inverse(QuotientOr0(Splat(1.0f), scale)) {}

  HWY_INLINE V CodeOf(V value, V low, V high) const {
    return RoundTo(hn::Mul(hn::Sub(value, offset), inverse), low, high);
  }
  HWY_INLINE V MissOf(V value, V code) const {
    return hn::Sub(value, hn::Add(hn::Mul(code, scale), offset));
  }

  V scale, offset, inverse;
};

void Weigh(const Octet& octet, const OctetGrid& grid, float low, float high, float* errors) {
  for (size_t lane = 0; lane < kOctet; lane += hn::Lanes(Floats())) {
    const Lanes x = From(octet, lane);
    const Rounding rounding(grid, lane);
    V error = hn::Zero(Floats());
    for (int64_t i = 0; i < x.length; ++i) {
      const V value = At(x.values, i);
      const V miss = rounding.MissOf(value, rounding.CodeOf(value, Splat(low), Splat(high)));
      error = hn::Add(error, hn::Mul(At(x.weights, i), hn::Mul(miss, miss)));
    }
    hn::StoreU(error, Floats(), errors + lane);
  }
}

void Round(const Octet& octet, const OctetGrid& grid, float low, float high, float* codes,
           OctetError& result) {
  for (size_t lane = 0; lane < kOctet; lane += hn::Lanes(Floats())) {
    const Lanes x = From(octet, lane);
    const Rounding rounding(grid, lane);
    V worst = hn::Zero(Floats());
    V squares = hn::Zero(Floats());
    for (int64_t i = 0; i < x.length; ++i) {
      const V value = At(x.values, i);
      const V code = rounding.CodeOf(value, Splat(low), Splat(high));
      const V miss = rounding.MissOf(value, code);
      worst = hn::Max(worst, hn::Abs(miss));
      squares = hn::Add(squares, hn::Mul(miss, miss));
      hn::StoreU(code, Floats(), codes + lane + i * kOctet);
    }
    hn::StoreU(worst, Floats(), result.max_abs + lane);
    hn::StoreU(squares, Floats(), result.sum_squares + lane);
  }
}

void Turn(const float* groups, int64_t length, float* octet) {
  TurnRows<kOctet>(Floats(), groups, length, octet);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(Affine);
HWY_EXPORT(Symmetric);
HWY_EXPORT(Weigh);
HWY_EXPORT(Round);
HWY_EXPORT(Turn);

}  // namespace

void TurnIntoOctet(const float* groups, int64_t length, float* octet) {
  HWY_DYNAMIC_DISPATCH(Turn)(groups, length, octet);
}

OctetGrid FitAffine(const Octet& octet, float high, bool offset_below_zero) {
  OctetGrid grid;
  HWY_DYNAMIC_DISPATCH(Affine)(octet, high, offset_below_zero, grid);
  return grid;
}

OctetGrid FitSymmetric(const Octet& octet, float low) {
  OctetGrid grid;
  HWY_DYNAMIC_DISPATCH(Symmetric)(octet, low, grid);
  return grid;
}

void WeighErrors(const Octet& octet, const OctetGrid& grid, float low, float high,
                 float errors[kOctet]) {
  HWY_DYNAMIC_DISPATCH(Weigh)(octet, grid, low, high, errors);
}

OctetError RoundOctet(const Octet& octet, const OctetGrid& grid, float low, float high,
                      float* codes) {
  OctetError error;
  HWY_DYNAMIC_DISPATCH(Round)(octet, grid, low, high, codes, error);
  return error;
}

}  // namespace linchpin
#endif  // HWY_ONCE
