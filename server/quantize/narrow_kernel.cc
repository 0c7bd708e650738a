#include "quantize/narrow_kernel.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/narrow_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/half-inl.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

using Floats = hn::CappedTag<float, 16>;
using Words = hn::RebindToUnsigned<Floats>;
using V = hn::VFromD<Floats>;
using U = hn::VFromD<Words>;
constexpr size_t kLanes = hn::MaxLanes(Floats());

struct ToHalf {
  static HWY_INLINE V Nearest(V value, U& code) { return NearestHalf(Floats(), value, code); }
};

struct ToBrain {
  static HWY_INLINE V Nearest(V value, U& code) {
    const Floats d;
    const V largest = hn::Set(d, 0x1.fep127f);
    return NearestBrain(d, hn::Min(hn::Max(value, hn::Neg(largest)), largest), code);
  }
};

// Adds squares in double, element by element; most vectors lose nothing.
HWY_INLINE void AddSquares(V error, double& total) {
  const Floats d;
  if (hn::AllTrue(d, hn::Eq(error, hn::Zero(d)))) return;
  HWY_ALIGN float lanes[kLanes];
  hn::Store(error, d, lanes);
  for (const float lane : lanes) total += static_cast<double>(lane) * lane;
}

template <class Load, class To>
BlockError NarrowAll(const std::byte* elements, int64_t count, std::byte* out) {
  const Floats d;
  const hn::Rebind<uint16_t, Floats> du16;
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  BlockError total;
  V worst = hn::Zero(d);
  const auto narrow = [&](const typename Load::Raw* vector, uint16_t* to) {
    const V value = Load()(d, vector);
    U code;
    const V error = hn::Abs(hn::Sub(value, To::Nearest(value, code)));
    hn::StoreU(hn::TruncateTo(du16, code), du16, to);
    worst = hn::Max(worst, error);
    AddSquares(error, total.sum_squares);
  };
  HWY_ALIGN uint16_t codes[kLanes];
  constexpr auto kStep = static_cast<int64_t>(kLanes);
  const int64_t whole = count - count % kStep;
  for (int64_t i = 0; i < whole; i += kStep) {
    narrow(from + i, codes);
    std::memcpy(out + 2 * i, codes, sizeof(codes));
  }
  if (whole < count) {
    HWY_ALIGN typename Load::Raw rest[kLanes] = {};  // what follows is not read
    for (int64_t i = whole; i < count; ++i) rest[i % kStep] = from[i];
    narrow(rest, codes);
    std::memcpy(out + 2 * whole, codes, static_cast<size_t>(2 * (count - whole)));
  }
  total.max_abs = hn::GetLane(hn::MaxOfLanes(d, worst));
  return total;
}

template <class To>
BlockError NarrowFrom(DType from, const std::byte* elements, int64_t count, std::byte* out) {
  if (from == DType::kF32) return NarrowAll<LoadF32, To>(elements, count, out);
  if (from == DType::kF16) return NarrowAll<LoadF16, To>(elements, count, out);
  return NarrowAll<LoadBF16, To>(elements, count, out);
}

BlockError NarrowOnTarget(DType from, bool to_half, const std::byte* elements, int64_t count,
                          std::byte* out) {
  return to_half ? NarrowFrom<ToHalf>(from, elements, count, out)
                 : NarrowFrom<ToBrain>(from, elements, count, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(NarrowOnTarget);

}  // namespace

BlockError NarrowElements(DType from, DType to, const std::byte* elements, int64_t count,
                          std::byte* out) {
  return HWY_DYNAMIC_DISPATCH(NarrowOnTarget)(from, to == DType::kF16, elements, count, out);
}

}  // namespace linchpin
#endif  // HWY_ONCE
