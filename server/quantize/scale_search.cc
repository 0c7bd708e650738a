#include "quantize/scale_search.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/scale_search.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/code_rounding-inl.h"
#include "quantize/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Rows = hn::CappedTag<float, kSearchRows>;
using V = hn::VFromD<Rows>;

// Two at a time.
constexpr float kSignedFactors[][2] = {{1.0f, 0.95f}, {0.9f, 0.85f}, {0.8f, 1.05f}};
constexpr float kClips[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f};

// Some rows of a block: as many as a vector has lanes, from `first` on.
struct Part {
  const SearchBlock& block;
  int64_t first = 0;

  V Column(int64_t column) const {
    return hn::LoadU(Rows(), block.weights + column * kSearchRows + first);
  }
  V Importance(int64_t column) const {
    return hn::Set(Rows(), block.importance == nullptr ? 1.0f : block.importance[column]);
  }
};

// As the stored dtype has it; ties to even.
HWY_INLINE V RoundScale(DType dtype, V scale) {
  const Rows d;
  if (dtype == DType::kF32) return scale;
  hn::VFromD<hn::RebindToUnsigned<Rows>> unused;
  if (dtype == DType::kBF16) return NearestBrain(d, scale, unused);
  const V nearest = NearestHalf(d, scale, unused);
  // What rounds past 65504 is infinite, and a NaN remains one.
  return hn::IfThenElse(hn::Lt(hn::Abs(scale), hn::Set(d, 65520.0f)), nearest,
                        hn::Mul(scale, hn::Inf(d)));
}

// 1 / scale where both are ordinary numbers, else NaN, which no comparison takes.
HWY_INLINE V Inverse(V scale) {
  const Rows d;
  const V nan = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
  const auto ordinary = hn::And(hn::Ge(hn::Abs(scale), hn::Set(d, 0x1p-126f)),
                                hn::Le(hn::Abs(scale), hn::Set(d, 0x1p126f)));
  return hn::IfThenElse(ordinary, hn::Div(hn::Set(d, 1.0f), scale), nan);
}

// How codes and values go together: value = scale (code - zero), of which a symmetric
// coding has no zero.
template <class Code>
struct SymmetricGrid {
  V inverse;

  HWY_INLINE V StepsOf(V w) const { return Code::Nearest(Rows(), hn::Mul(w, inverse)); }
};

template <class Code>
struct AffineGrid {
  V inverse;
  V zero;

  HWY_INLINE V StepsOf(V w) const {
    return hn::Sub(Code::Nearest(Rows(), hn::Add(hn::Mul(w, inverse), zero)), zero);
  }
};

// Sums over a group's values w, of weight `importance`, on a grid with q steps.

// The least-squares scale for the codes of a grid.
struct Solved {
  V products = hn::Zero(Rows());
  V squares = hn::Zero(Rows());

  HWY_INLINE void Add(V w, V importance, V q) {
    const V weighted = hn::Mul(q, importance);
    products = hn::Add(products, hn::Mul(weighted, w));
    squares = hn::Add(squares, hn::Mul(weighted, q));
  }
  HWY_INLINE V scale() const { return hn::Div(products, squares); }
};

// What is lost with a scale.
struct Judged {
  V scale;
  V error = hn::Zero(Rows());

  HWY_INLINE void Add(V w, V importance, V q) {
    const V off = hn::Sub(w, hn::Mul(q, scale));
    error = hn::Add(error, hn::Mul(importance, hn::Mul(off, off)));
  }
};

// A grid and what is summed on it.
template <class Grid, class... Sums>
struct On : Sums... {
  Grid grid;

  HWY_INLINE void Take(V w, V importance) {
    const V q = grid.StepsOf(w);
    (Sums::Add(w, importance, q), ...);
  }
};

// One pass over the values for two grids, which keep each other's units busy.
template <class A, class B>
HWY_INLINE void SumOver(const Part& part, A& a, B& b) {
  A sums_a = a;  // in registers
  B sums_b = b;
  for (int64_t i = 0; i < part.block.columns; ++i) {
    const V w = part.Column(i);
    const V importance = part.Importance(i);
    sums_a.Take(w, importance);
    sums_b.Take(w, importance);
  }
  a = sums_a;
  b = sums_b;
}

template <class A>
HWY_INLINE void SumOver(const Part& part, A& a) {
  A sums = a;
  for (int64_t i = 0; i < part.block.columns; ++i) sums.Take(part.Column(i), part.Importance(i));
  a = sums;
}

// The best so far.
struct Best {
  V error;
  V scale;
  V zero;

  // Where it is better.
  HWY_INLINE void Take(const Judged& judged, V its_zero) {
    const auto better = hn::Lt(judged.error, error);
    error = hn::IfThenElse(better, judged.error, error);
    scale = hn::IfThenElse(better, judged.scale, scale);
    zero = hn::IfThenElse(better, its_zero, zero);
  }
};

// The rows' largest elements by magnitude with their sign, and both ends of
// their range, 0 included.
struct Ends {
  V largest;
  V least;
  V greatest;
};

Ends EndsOf(const Part& part) {
  const Rows d;
  Ends ends{hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (int64_t i = 0; i < part.block.columns; ++i) {
    const V w = part.Column(i);
    ends.least = hn::Min(ends.least, w);
    ends.greatest = hn::Max(ends.greatest, w);
  }
  const auto negative = hn::Ge(hn::Neg(ends.least), ends.greatest);
  ends.largest = hn::IfThenElse(negative, ends.least, ends.greatest);
  return ends;
}

template <class Code>
void SearchSymmetric(const Part& part, const Ends& ends, Best& best) {
  const Rows d;
  using Grid = SymmetricGrid<Code>;
  const Coding& coding = part.block.coding;
  const V zero = hn::Zero(d);
  const V exact = hn::Div(ends.largest, hn::Set(d, -coding.exact()));
  const auto judge = [&](V scale) {
    const V rounded = RoundScale(part.block.scale_dtype, scale);
    return On<Grid, Judged>{{rounded}, {Inverse(rounded)}};
  };
  const auto solve = [&](V scale) { return On<Grid, Solved>{{}, {Inverse(scale)}}; };
  const auto by = [&](float factor) { return hn::Mul(exact, hn::Set(d, factor)); };
  // First as it is: it stays where nothing matters.
  auto first = judge(exact);
  auto last = solve(hn::Div(hn::Abs(ends.largest), hn::Set(d, coding.full())));
  SumOver(part, first, last);
  best.Take(first, zero);
  for (const auto& [one, other] : kSignedFactors) {
    auto a = solve(by(one));
    auto b = solve(by(other));
    SumOver(part, a, b);
    auto judged_a = judge(a.scale());
    auto judged_b = judge(b.scale());
    SumOver(part, judged_a, judged_b);
    best.Take(judged_a, zero);
    best.Take(judged_b, zero);
  }
  auto judged = judge(last.scale());
  SumOver(part, judged);
  best.Take(judged, zero);
}

template <class Code>
void SearchAsymmetric(const Part& part, const Ends& ends, Best& best) {
  const Rows d;
  using Grid = AffineGrid<Code>;
  const Coding& coding = part.block.coding;
  const V steps = hn::Set(d, 2 * coding.full());
  for (const float low : kClips) {
    const V least = hn::Mul(ends.least, hn::Set(d, low));
    for (const float high : kClips) {
      const V greatest = hn::Mul(ends.greatest, hn::Set(d, high));
      const V scale = RoundScale(part.block.scale_dtype, hn::Div(hn::Sub(greatest, least), steps));
      const V inverse = Inverse(scale);
      const V place = hn::Sub(hn::Set(d, -coding.exact()), hn::Mul(least, inverse));
      const V zero = Code::Nearest(d, place);
      On<Grid, Judged, Solved> clipped{{scale}, {}, {inverse, zero}};
      SumOver(part, clipped);
      best.Take(clipped, zero);
      const V refined =
          RoundScale(part.block.scale_dtype, hn::Div(clipped.products, clipped.squares));
      On<Grid, Judged> judged{{refined}, {Inverse(refined), zero}};
      SumOver(part, judged);
      best.Take(judged, zero);
    }
  }
}

template <class Code>
void SearchWith(const SearchBlock& block, BlockScales& found) {
  const Rows d;
  for (int64_t first = 0; first < kSearchRows; first += static_cast<int64_t>(hn::Lanes(d))) {
    const Part part{block, first};
    Best best{hn::Set(d, std::numeric_limits<float>::infinity()), hn::Zero(d), hn::Zero(d)};
    const Ends ends = EndsOf(part);
    if (block.coding.asymmetric) {
      SearchAsymmetric<Code>(part, ends, best);
    } else {
      SearchSymmetric<Code>(part, ends, best);
    }
    hn::StoreU(best.scale, d, found.scale + first);
    hn::StoreU(best.zero, d, found.zero + first);
  }
}

void SearchOnTarget(const SearchBlock& block, BlockScales& found) {
  if (block.coding.kind == CodeKind::kFloat8) return SearchWith<Float8Code>(block, found);
  if (block.coding.bits == 8) return SearchWith<PlainInt8>(block, found);
  return SearchWith<IntegerCode<4, 0>>(block, found);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(SearchOnTarget);

}  // namespace

BlockScales SearchScales(const SearchBlock& block) {
  BlockScales found;
  HWY_DYNAMIC_DISPATCH(SearchOnTarget)(block, found);
  return found;
}

}  // namespace linchpin
#endif  // HWY_ONCE
