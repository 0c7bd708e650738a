#include "quantize/scale_search.h"

#include <limits>

#include "tensor/float16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/scale_search.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/code_rounding-inl.h"
#include "quantize/turn-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Rows = hn::CappedTag<float, kSearchRows>;
using V = hn::VFromD<Rows>;

constexpr float kSignedFactors[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 1.05f};
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
V RoundScale(DType dtype, V scale) {
  const Rows d;
  if (dtype == DType::kF32) return scale;
  if (dtype == DType::kBF16) {
    const hn::RebindToUnsigned<Rows> du;
    const auto bits = hn::BitCast(du, scale);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1U));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffU)), odd);
    return hn::BitCast(d, hn::And(rounded, hn::Set(du, 0xffff0000U)));
  }
  HWY_ALIGN float lanes[kSearchRows];
  hn::Store(scale, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = RoundTo(dtype, lanes[i]);
  return hn::Load(d, lanes);
}

// 1 / scale where both are ordinary numbers, else NaN, which no comparison takes.
V Inverse(V scale) {
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

// The best so far.
struct Best {
  V error;
  V scale;
  V zero;
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

// The least-squares scale for the codes of a grid.
template <class Grid>
V Refine(const Part& part, const Grid& grid) {
  const Rows d;
  V products = hn::Zero(d);
  V squares = hn::Zero(d);
  for (int64_t i = 0; i < part.block.columns; ++i) {
    const V w = part.Column(i);
    const V q = grid.StepsOf(w);
    const V weighted = hn::Mul(q, part.Importance(i));
    products = hn::Add(products, hn::Mul(weighted, w));
    squares = hn::Add(squares, hn::Mul(weighted, q));
  }
  return hn::Div(products, squares);
}

template <class Grid>
V ErrorOf(const Part& part, const Grid& grid, V scale) {
  const Rows d;
  V error = hn::Zero(d);
  for (int64_t i = 0; i < part.block.columns; ++i) {
    const V w = part.Column(i);
    const V off = hn::Sub(w, hn::Mul(grid.StepsOf(w), scale));
    error = hn::Add(error, hn::Mul(part.Importance(i), hn::Mul(off, off)));
  }
  return error;
}

// Takes `scale`, already rounded, where it is better.
template <class Grid>
void Judge(const Part& part, const Grid& grid, V scale, V zero, Best& best) {
  const V error = ErrorOf(part, grid, scale);
  const auto better = hn::Lt(error, best.error);
  best.error = hn::IfThenElse(better, error, best.error);
  best.scale = hn::IfThenElse(better, scale, best.scale);
  best.zero = hn::IfThenElse(better, zero, best.zero);
}

template <class Code>
void SearchSymmetric(const Part& part, const Ends& ends, Best& best) {
  const Rows d;
  const Coding& coding = part.block.coding;
  const V zero = hn::Zero(d);
  const V exact = hn::Div(ends.largest, hn::Set(d, -coding.exact()));
  using Grid = SymmetricGrid<Code>;
  const auto judge = [&](V exact_scale) {
    const V scale = RoundScale(part.block.scale_dtype, exact_scale);
    Judge(part, Grid{Inverse(scale)}, scale, zero, best);
  };
  // First as it is: it stays where nothing matters.
  judge(exact);
  const auto try_refined = [&](V scale) { judge(Refine(part, Grid{Inverse(scale)})); };
  for (const float factor : kSignedFactors) try_refined(hn::Mul(exact, hn::Set(d, factor)));
  try_refined(hn::Div(hn::Abs(ends.largest), hn::Set(d, coding.full())));
}

template <class Code>
void SearchAsymmetric(const Part& part, const Ends& ends, Best& best) {
  const Rows d;
  const Coding& coding = part.block.coding;
  const V steps = hn::Set(d, 2 * coding.full());
  for (const float low : kClips) {
    const V least = hn::Mul(ends.least, hn::Set(d, low));
    for (const float high : kClips) {
      const V greatest = hn::Mul(ends.greatest, hn::Set(d, high));
      const V scale = RoundScale(part.block.scale_dtype, hn::Div(hn::Sub(greatest, least), steps));
      const V place = hn::Sub(hn::Set(d, -coding.exact()), hn::Mul(least, Inverse(scale)));
      const V zero = Code::Nearest(d, place);
      const AffineGrid<Code> grid{Inverse(scale), zero};
      Judge(part, grid, scale, zero, best);
      const V refined = RoundScale(part.block.scale_dtype, Refine(part, grid));
      Judge(part, AffineGrid<Code>{Inverse(refined), zero}, refined, zero, best);
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

void TurnOnTarget(const float* rows, int64_t columns, float* weights) {
  TurnRows<kSearchRows>(Rows(), rows, columns, weights);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(SearchOnTarget);
HWY_EXPORT(TurnOnTarget);

}  // namespace

void StandSideBySide(const float* rows, int64_t columns, float* weights) {
  HWY_DYNAMIC_DISPATCH(TurnOnTarget)(rows, columns, weights);
}

BlockScales SearchScales(const SearchBlock& block) {
  BlockScales found;
  HWY_DYNAMIC_DISPATCH(SearchOnTarget)(block, found);
  return found;
}

}  // namespace linchpin
#endif  // HWY_ONCE
