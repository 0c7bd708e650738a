#include "quantize/octet_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/octet_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kOctet>;
using V = hn::VFromD<Floats>;

// Adding 1.5 x 2^23 leaves no fraction bits: the sum is rounded half to even.
constexpr float kRounder = 12582912.0f;
constexpr int kSteps = 20;       // tried around the spanning one,
constexpr float kWidth = 1.0f;   // up to so many codes more or less than span it
constexpr int kRefinements = 3;  // roundings to what was found
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

HWY_INLINE V ErrorOf(const Lanes& x, V scale, V offset, const float* codes) {
  V error = hn::Zero(Floats());
  for (int64_t i = 0; i < x.length; ++i) {
    const V read = hn::Add(hn::Mul(At(codes, i), scale), offset);
    const V miss = hn::Sub(At(x.values, i), read);
    error = hn::Add(error, hn::Mul(At(x.weights, i), hn::Mul(miss, miss)));
  }
  return error;
}

struct Best {
  V scale;
  V offset;
  V error;

  HWY_INLINE void Take(V new_scale, V new_offset, V new_error) {
    const auto better = hn::Lt(new_error, error);
    scale = hn::IfThenElse(better, new_scale, scale);
    offset = hn::IfThenElse(better, new_offset, offset);
    error = hn::IfThenElse(better, new_error, error);
  }
};

class AffineFit {
 public:
  AffineFit(const Lanes& x, float high, bool below_zero)
      : x_(x), high_(Splat(high)), below_zero_(below_zero) {
    weight_ = hn::Zero(Floats());
    weighted_ = hn::Zero(Floats());
    low_value_ = high_value_ = At(x.values, 0);
    for (int64_t i = 0; i < x.length; ++i) {
      const V value = At(x.values, i);
      low_value_ = hn::Min(low_value_, value);
      high_value_ = hn::Max(high_value_, value);
      weight_ = hn::Add(weight_, At(x.weights, i));
      weighted_ = hn::Add(weighted_, hn::Mul(At(x.weights, i), value));
    }
    if (below_zero) low_value_ = hn::Min(low_value_, hn::Zero(Floats()));
    low_value_ = hn::Add(low_value_, hn::Zero(Floats()));  // never -0, which not all minima keep
  }

  Best Run() {
    const V span = hn::Sub(high_value_, low_value_);
    Best best{hn::Div(span, high_), low_value_, hn::Zero(Floats())};
    RoundAll(QuotientOr0(high_, span), low_value_);
    best.error = ErrorOf(x_, best.scale, best.offset, codes_);
    for (int step = 0; step <= kSteps; ++step) {
      const float delta = kWidth * (2.0f * static_cast<float>(step) / kSteps - 1.0f);
      Try(QuotientOr0(hn::Add(high_, Splat(delta)), span), low_value_, best);
    }
    for (int i = 0; i < kRefinements; ++i)
      Try(QuotientOr0(Splat(1.0f), best.scale), best.offset, best);
    return best;
  }

 private:
  HWY_INLINE void RoundAll(V inverse, V base) {
    for (int64_t i = 0; i < x_.length; ++i) {
      const V y = hn::Mul(hn::Sub(At(x_.values, i), base), inverse);
      hn::StoreU(RoundTo(y, hn::Zero(Floats()), high_), Floats(), codes_ + i * kOctet);
    }
  }

  // Scale and offset of least squares for the codes that `inverse` gives.
  void Try(V inverse, V base, Best& best) {
    RoundAll(inverse, base);
    V codes = hn::Zero(Floats());
    V squares = hn::Zero(Floats());
    V products = hn::Zero(Floats());
    for (int64_t i = 0; i < x_.length; ++i) {
      const V code = At(codes_, i);
      const V weighted = hn::Mul(At(x_.weights, i), code);
      codes = hn::Add(codes, weighted);
      squares = hn::Add(squares, hn::Mul(weighted, code));
      products = hn::Add(products, hn::Mul(weighted, At(x_.values, i)));
    }
    const V determinant = hn::Sub(hn::Mul(weight_, squares), hn::Mul(codes, codes));
    V scale =
        QuotientOr0(hn::Sub(hn::Mul(weight_, products), hn::Mul(weighted_, codes)), determinant);
    V offset =
        QuotientOr0(hn::Sub(hn::Mul(squares, weighted_), hn::Mul(codes, products)), determinant);
    if (below_zero_) {
      const auto above = hn::Gt(offset, hn::Zero(Floats()));
      scale = hn::IfThenElse(above, QuotientOr0(products, squares), scale);
      offset = hn::IfThenZeroElse(above, offset);
    }
    const V error = ErrorOf(x_, scale, offset, codes_);
    best.Take(scale, offset, hn::IfThenElse(hn::Gt(scale, hn::Zero(Floats())), error, best.error));
  }

  const Lanes x_;
  const V high_;
  const bool below_zero_;
  V low_value_, high_value_;
  V weight_, weighted_;  // sums
  HWY_ALIGN float codes_[kMaxLength * kOctet];
};

class SymmetricFit {
 public:
  SymmetricFit(const Lanes& x, float low) : x_(x), low_(Splat(low)), high_(Splat(-low - 1.0f)) {
    largest_ = hn::Zero(Floats());
    for (int64_t i = 0; i < x.length; ++i) {
      const V value = At(x.values, i);
      largest_ = hn::IfThenElse(hn::Gt(hn::Abs(value), hn::Abs(largest_)), value, largest_);
    }
  }

  Best Run() {
    const V zero = hn::Zero(Floats());
    Best best{hn::Div(largest_, low_), zero, zero};
    RoundAll(QuotientOr0(low_, largest_));
    best.error = ErrorOf(x_, best.scale, zero, codes_);
    for (int step = 0; step <= kSteps; ++step) {
      const V delta = Splat(kWidth * (2.0f * static_cast<float>(step) / kSteps - 1.0f));
      Try(QuotientOr0(hn::Add(low_, delta), largest_), best);
      Try(QuotientOr0(hn::Add(high_, delta), largest_), best);
    }
    for (int i = 0; i < kRefinements; ++i) Try(QuotientOr0(Splat(1.0f), best.scale), best);
    return best;
  }

 private:
  HWY_INLINE void RoundAll(V inverse) {
    for (int64_t i = 0; i < x_.length; ++i) {
      const V y = hn::Mul(At(x_.values, i), inverse);
      hn::StoreU(RoundTo(y, low_, high_), Floats(), codes_ + i * kOctet);
    }
  }

  void Try(V inverse, Best& best) {
    RoundAll(inverse);
    V squares = hn::Zero(Floats());
    V products = hn::Zero(Floats());
    for (int64_t i = 0; i < x_.length; ++i) {
      const V weighted = hn::Mul(At(x_.weights, i), At(codes_, i));
      squares = hn::Add(squares, hn::Mul(weighted, At(codes_, i)));
      products = hn::Add(products, hn::Mul(weighted, At(x_.values, i)));
    }
    const V scale = QuotientOr0(products, squares);
    const V offset = hn::Zero(Floats());
    best.Take(scale, offset, ErrorOf(x_, scale, offset, codes_));
  }

  const Lanes x_;
  const V low_, high_;
  V largest_;
  HWY_ALIGN float codes_[kMaxLength * kOctet];
};

void StoreGrid(const Best& best, size_t lane, OctetGrid& grid) {
  hn::StoreU(best.scale, Floats(), grid.scale + lane);
  hn::StoreU(best.offset, Floats(), grid.offset + lane);
}

void Affine(const Octet& octet, float high, bool below_zero, OctetGrid& grid) {
  for (size_t lane = 0; lane < kOctet; lane += hn::Lanes(Floats())) {
    StoreGrid(AffineFit(From(octet, lane), high, below_zero).Run(), lane, grid);
  }
}

void Symmetric(const Octet& octet, float low, OctetGrid& grid) {
  for (size_t lane = 0; lane < kOctet; lane += hn::Lanes(Floats())) {
    StoreGrid(SymmetricFit(From(octet, lane), low).Run(), lane, grid);
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

}  // namespace

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
