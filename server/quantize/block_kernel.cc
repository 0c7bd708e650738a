#include "quantize/block_kernel.h"

#include "format/gguf_pack.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/block_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/block_rounding-inl.h"
#include "quantize/eight_sums-inl.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

constexpr int64_t kErrorBlocks = 4;  // whose errors are summed in float32

// Errors of up to kErrorBlocks blocks.
class Errors {
 public:
  HWY_INLINE Errors() { worst_ = hn::Zero(Floats()); }

  // Of vector `i` of a block.
  HWY_INLINE void Add(size_t i, V error) {
    sums_.Add(Floats(), i * kLanes, hn::Mul(error, error));
    worst_ = hn::Max(worst_, hn::Abs(error));
  }

  HWY_INLINE void FlushTo(BlockError& total) {
    float lanes[8];
    sums_.StoreTo(lanes);
    sums_.Clear();
    double sum = 0;
    for (const float lane : lanes) sum += lane;
    total.sum_squares += sum;
  }
  HWY_INLINE double worst() const { return hn::GetLane(hn::MaxOfLanes(Floats(), worst_)); }

 private:
  EightSums sums_;
  V worst_;
};

// Lane i becomes what `op` makes of all lanes of vector i.
template <class Op>
HWY_INLINE V OfEach(V* vectors, [[maybe_unused]] const Op& op) {
#if HWY_TARGET != HWY_SCALAR
  const Floats d;
  for (size_t count = kLanes / 2; count > 0; count /= 2) {
    for (size_t i = 0; i < count; ++i) {
      const V a = vectors[2 * i];
      const V b = vectors[2 * i + 1];
      vectors[i] = op(hn::ConcatEven(d, b, a), hn::ConcatOdd(d, b, a));
    }
  }
#endif
  return vectors[0];
}

// Of `blocks` blocks, at most kLanes; zeros for those that there are not.
template <class Load>
HWY_INLINE Ends EndsOf(const typename Load::Raw* from, size_t blocks) {
  const Floats d;
  V low[kLanes];
  V high[kLanes];
  for (size_t block = 0; block < kLanes; ++block) {
    low[block] = high[block] = hn::Zero(d);
    if (block >= blocks) continue;
    low[block] = high[block] = Load()(d, from + block * kBlock);
    for (size_t i = 1; i < kVectors; ++i) {
      const V x = Load()(d, from + block * kBlock + i * kLanes);
      low[block] = hn::Min(low[block], x);
      high[block] = hn::Max(high[block], x);
    }
  }
  return {OfEach(low, [](V a, V b) { return hn::Min(a, b); }),
          OfEach(high, [](V a, V b) { return hn::Max(a, b); })};
}

// The elements that the blocks' grids start from.
template <class Type, class Load>
HWY_INLINE V FirstOf(const typename Load::Raw* from, size_t blocks, const Ends& ends) {
  const Floats d;
  const V first = Type::First(ends);
  const auto open = Type::IsOpen(ends);
  if (hn::AllFalse(d, open)) return first;
  HWY_ALIGN float firsts[kLanes], low[kLanes], high[kLanes], is_open[kLanes], x[kBlock];
  hn::Store(first, d, firsts);
  hn::Store(ends.low, d, low);
  hn::Store(ends.high, d, high);
  hn::Store(hn::IfThenElseZero(open, Splat(1.0f)), d, is_open);
  for (size_t block = 0; block < blocks; ++block) {
    if (is_open[block] == 0.0f) continue;
    for (size_t i = 0; i < kBlock; i += kLanes) {
      hn::Store(Load()(d, from + block * kBlock + i), d, x + i);
    }
    size_t i = 0;
    while (!Type::MayBeFirst(x[i], low[block], high[block])) ++i;
    firsts[block] = x[i];
  }
  return hn::Load(d, firsts);
}

// 0 where it is not a finite number.
HWY_INLINE V InverseOf(V step) {
  const V inverse = hn::Div(Splat(1.0f), step);
  return hn::IfThenElseZero(hn::Eq(hn::Sub(inverse, inverse), hn::Zero(Floats())), inverse);
}

// What the blocks' grids are, one beside the other.
struct Grids {
  HWY_ALIGN float inverse[kLanes];
  HWY_ALIGN float base[kLanes];
  HWY_ALIGN float scale[kLanes];
  HWY_ALIGN float offset[kLanes];
  HWY_ALIGN uint32_t scale_code[kLanes];
  HWY_ALIGN uint32_t offset_code[kLanes];

  HWY_INLINE void Set(const Grid& grid) {
    const Floats d;
    const hn::RebindToUnsigned<Floats> du;
    hn::VFromD<decltype(du)> code;
    hn::Store(InverseOf(grid.step), d, inverse);
    hn::Store(grid.base, d, base);
    hn::Store(NearestHalf(d, grid.step, code), d, scale);
    hn::Store(code, du, scale_code);
    hn::Store(NearestHalf(d, grid.base, code), d, offset);
    hn::Store(code, du, offset_code);
  }
  HWY_INLINE Rounding Of(size_t block) const {
    return {Splat(inverse[block]), Splat(base[block]), Splat(scale[block]), Splat(offset[block])};
  }
};

template <class Type, class Load>
HWY_INLINE uint8_t* RoundBlock(const typename Load::Raw* from, const Grids& grids, size_t block,
                               uint8_t* to, Errors& errors) {
  const Rounding rounding = grids.Of(block);
  I codes[kVectors];
  for (size_t i = 0; i < kVectors; ++i) {
    const Coded coded = Type::Code(Load()(Floats(), from + i * kLanes), rounding);
    codes[i] = coded.code;
    errors.Add(i, coded.error);
  }
  PackHalf(static_cast<uint16_t>(grids.scale_code[block]), to);
  to += 2;
  if (Type::kAffine) PackHalf(static_cast<uint16_t>(grids.offset_code[block]), to);
  if (Type::kAffine) to += 2;
  Type::Store(codes, to);
  return to + Type::kCodeBytes;
}

template <class Type, class Load>
BlockError RoundAll(const std::byte* elements, int64_t blocks, std::byte* out) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  auto* to = reinterpret_cast<uint8_t*>(out);
  BlockError total;
  Errors errors;
  Grids grids;
  for (int64_t first = 0; first < blocks; first += kLanes) {
    const auto left = static_cast<size_t>(blocks - first);
    const size_t count = left < kLanes ? left : kLanes;
    const Ends ends = EndsOf<Load>(from, count);
    grids.Set(Type::Fit(FirstOf<Type, Load>(from, count, ends), ends));
    for (size_t block = 0; block < count; ++block, from += kBlock) {
      to = RoundBlock<Type, Load>(from, grids, block, to, errors);
      const int64_t done = first + static_cast<int64_t>(block) + 1;
      if (done % kErrorBlocks == 0 || done == blocks) errors.FlushTo(total);
    }
  }
  total.max_abs = errors.worst();
  return total;
}

template <class Load>
BlockError RoundAs(BlockRounding rounding, const std::byte* elements, int64_t blocks,
                   std::byte* out) {
  switch (rounding) {
    case BlockRounding::kQ8_0:
      return RoundAll<BlockQ8_0, Load>(elements, blocks, out);
    case BlockRounding::kQ4_0:
      return RoundAll<SmallBlock<4, false>, Load>(elements, blocks, out);
    case BlockRounding::kQ4_1:
      return RoundAll<SmallBlock<4, true>, Load>(elements, blocks, out);
    case BlockRounding::kQ5_0:
      return RoundAll<SmallBlock<5, false>, Load>(elements, blocks, out);
    default:
      return RoundAll<SmallBlock<5, true>, Load>(elements, blocks, out);
  }
}

BlockError RoundOnTarget(BlockRounding rounding, DType dtype, const std::byte* elements,
                         int64_t blocks, std::byte* out) {
  if (dtype == DType::kF32) return RoundAs<LoadF32>(rounding, elements, blocks, out);
  if (dtype == DType::kF16) return RoundAs<LoadF16>(rounding, elements, blocks, out);
  return RoundAs<LoadBF16>(rounding, elements, blocks, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(RoundOnTarget);

}  // namespace

BlockError RoundBlocks(BlockRounding rounding, DType dtype, const std::byte* elements,
                       int64_t blocks, std::byte* out) {
  return HWY_DYNAMIC_DISPATCH(RoundOnTarget)(rounding, dtype, elements, blocks, out);
}

}  // namespace linchpin
#endif  // HWY_ONCE
