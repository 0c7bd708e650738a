#include "quantize/group_kernel.h"

#include <bit>

#include "tensor/float16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/group_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/code_rounding-inl.h"
#include "quantize/eight_sums-inl.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

// At most eight lanes, so that a row of any multiple of eight has no tail.
constexpr size_t kWidth = 8;
// Elements whose errors are summed in float32 before they go into a double.
constexpr int64_t kErrorRun = 128;
using Floats = hn::CappedTag<float, kWidth>;

// Rotates the sign to the lowest bit, so that unsigned order is order of magnitude and one
// maximum finds the largest element together with its sign.  Whole vectors from `i` on.
template <class D, typename T>
HWY_INLINE hn::VFromD<D> LargestKeys(D d, const T* elements, int64_t count, int64_t& i) {
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(d);
  for (; i + step <= count; i += step) {
    const auto v = hn::LoadU(d, elements + i);
    const auto key = hn::Or(hn::ShiftLeft<1>(v), hn::ShiftRight<8 * sizeof(T) - 1>(v));
    largest = hn::Max(largest, key);
  }
  return largest;
}

template <typename T>
T LargestKey(const T* elements, int64_t count) {
  const hn::ScalableTag<T> wide;
  const hn::CappedTag<T, kWidth> d;
  int64_t i = 0;
  HWY_ALIGN T lanes[HWY_MAX(hn::MaxLanes(wide), kWidth)] = {};
  hn::Store(LargestKeys(wide, elements, count, i), wide, lanes);
  auto largest = LargestKeys(d, elements, count, i);
  for (size_t lane = 0; lane < hn::Lanes(wide); lane += hn::Lanes(d)) {
    largest = hn::Max(largest, hn::Load(d, lanes + lane));
  }
  hn::Store(largest, d, lanes);
  T result = 0;
  for (size_t lane = 0; lane < hn::Lanes(d); ++lane) {
    result = lanes[lane] > result ? lanes[lane] : result;
  }
  return result;
}

uint32_t LargestKey16(const uint16_t* elements, int64_t count) {
  return LargestKey(elements, count);
}
uint32_t LargestKey32(const uint32_t* elements, int64_t count) {
  return LargestKey(elements, count);
}

// Lane sums in a fixed order.
HWY_INLINE double SumOf(const float* lanes) {
  return ((static_cast<double>(lanes[0]) + lanes[1]) + (static_cast<double>(lanes[2]) + lanes[3])) +
         ((static_cast<double>(lanes[4]) + lanes[5]) + (static_cast<double>(lanes[6]) + lanes[7]));
}

// What is the same for every element of a run.
struct Grid {
  float scale = 1;
  float zero = 0;
};

#if HWY_TARGET == HWY_SCALAR

// At most kErrorRun elements; the same lanes as below, one after the other.
template <class Load, class Code>
void EncodeShortRun(const typename Load::Raw* from, int64_t count, Grid grid, uint8_t* codes,
                    CodeError& total) {
  const hn::CappedTag<float, 1> d;
  float sums[kWidth] = {};
  for (int64_t i = 0; i < count; ++i) {
    const auto x =
        hn::Add(hn::Div(Load()(d, from + i), hn::Set(d, grid.scale)), hn::Set(d, grid.zero));
    hn::VFromD<hn::RebindToUnsigned<decltype(d)>> coded;
    const float error = hn::GetLane(hn::Sub(x, Code::Round(d, x, coded)));
    sums[i % kWidth] += error * error;
    const float magnitude = error < 0 ? -error : error;
    total.max_abs = magnitude > total.max_abs ? magnitude : total.max_abs;
    const auto code = static_cast<uint8_t>(hn::GetLane(coded));
    if (!Code::kHalfByte) {
      codes[i] = code;
    } else {
      codes[i / 2] = i % 2 == 0 ? code : static_cast<uint8_t>(codes[i / 2] | code << 4);
    }
  }
  total.sum_squares += SumOf(sums);
}

#else

// Stores one vector of codes.
template <class Code, class D>
HWY_INLINE void StoreCodes(D d, hn::VFromD<hn::RebindToUnsigned<D>> code, uint8_t* to) {
  if constexpr (Code::kHalfByte) {
    const hn::Repartition<uint64_t, D> du64;
    const hn::Rebind<uint8_t, decltype(du64)> du8;
    const auto pair = hn::BitCast(du64, code);  // even element low, odd element 32 bits up
    hn::StoreU(hn::TruncateTo(du8, hn::Or(pair, hn::ShiftRight<28>(pair))), du8, to);
  } else {
    const hn::Rebind<uint8_t, D> du8;
    hn::StoreU(hn::TruncateTo(du8, code), du8, to);
  }
  (void)d;
}

// Whole vectors from element `i` on: codes into `codes`, errors into `squares` and `total`.
template <class Load, class Code, class D>
HWY_INLINE void EncodeVectors(D d, const typename Load::Raw* from, int64_t count, Grid grid,
                              uint8_t* codes, int64_t& i, EightSums& squares, CodeError& total) {
  constexpr int64_t kPerByte = Code::kHalfByte ? 2 : 1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, grid.scale);
  const auto zero = hn::Set(d, grid.zero);
  auto worst = hn::Zero(d);
  for (; i + lanes <= count; i += lanes) {
    const auto x = hn::Add(hn::Div(Load()(d, from + i), scale), zero);
    hn::VFromD<hn::RebindToUnsigned<D>> code;
    const auto error = hn::Sub(x, Code::Round(d, x, code));
    squares.Add(d, static_cast<size_t>(i), hn::Mul(error, error));
    worst = hn::Max(worst, hn::Abs(error));
    StoreCodes<Code>(d, code, codes + i / kPerByte);
  }
  const double largest = hn::GetLane(hn::MaxOfLanes(d, worst));
  total.max_abs = largest > total.max_abs ? largest : total.max_abs;
}

// At most kErrorRun elements.
template <class Load, class Code>
void EncodeShortRun(const typename Load::Raw* from, int64_t count, Grid grid, uint8_t* codes,
                    CodeError& total) {
  const hn::CappedTag<float, 2 * kWidth> wide;
  EightSums squares;
  int64_t i = 0;
  EncodeVectors<Load, Code>(wide, from, count, grid, codes, i, squares, total);
  if (i < count) EncodeVectors<Load, Code>(Floats(), from, count, grid, codes, i, squares, total);
  float sums[kWidth];
  squares.StoreTo(sums);
  total.sum_squares += SumOf(sums);
}

#endif  // HWY_TARGET == HWY_SCALAR

template <class Load, class Code>
CodeError EncodeAll(const std::byte* elements, int64_t count, Grid grid, std::byte* codes) {
  constexpr int64_t kPerByte = Code::kHalfByte ? 2 : 1;
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  auto* to = reinterpret_cast<uint8_t*>(codes);
  CodeError total;
  for (int64_t i = 0; i < count; i += kErrorRun) {
    const int64_t run = count - i < kErrorRun ? count - i : kErrorRun;
    EncodeShortRun<Load, Code>(from + i, run, grid, to + i / kPerByte, total);
  }
  return total;
}

template <class Load>
CodeError EncodeAs(const Coding& coding, const std::byte* elements, int64_t count, Grid grid,
                   std::byte* codes) {
  if (coding.kind == CodeKind::kFloat8) {
    return EncodeAll<Load, Float8Code>(elements, count, grid, codes);
  }
  if (coding.kind == CodeKind::kInt8) {
    return EncodeAll<Load, PlainInt8>(elements, count, grid, codes);
  }
  if (coding.bits == 8) return EncodeAll<Load, PackedInt8>(elements, count, grid, codes);
  return EncodeAll<Load, PackedInt4>(elements, count, grid, codes);
}

CodeError EncodeOnTarget(const Coding& coding, DType dtype, const std::byte* elements,
                         int64_t count, float scale, float zero, std::byte* codes) {
  const Grid grid{scale, zero};
  if (dtype == DType::kF32) return EncodeAs<LoadF32>(coding, elements, count, grid, codes);
  if (dtype == DType::kF16) return EncodeAs<LoadF16>(coding, elements, count, grid, codes);
  return EncodeAs<LoadBF16>(coding, elements, count, grid, codes);
}

// Comparisons only: the same for any number of lanes.
template <class Load>
Extremes ExtremesIn(const std::byte* elements, int64_t count) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  const Floats d;
  auto least = hn::Zero(d);
  auto greatest = hn::Zero(d);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto x = Load()(d, from + i);
    least = hn::Min(least, x);
    greatest = hn::Max(greatest, x);
  }
  HWY_ALIGN float low[kWidth] = {};
  HWY_ALIGN float high[kWidth] = {};
  hn::Store(least, d, low);
  hn::Store(greatest, d, high);
  Extremes extremes;
  for (size_t i = 0; i < kWidth; ++i) {
    extremes.least = low[i] < extremes.least ? low[i] : extremes.least;
    extremes.greatest = high[i] > extremes.greatest ? high[i] : extremes.greatest;
  }
  return extremes;
}

Extremes ExtremesOnTarget(DType dtype, const std::byte* elements, int64_t count) {
  if (dtype == DType::kF32) return ExtremesIn<LoadF32>(elements, count);
  if (dtype == DType::kF16) return ExtremesIn<LoadF16>(elements, count);
  return ExtremesIn<LoadBF16>(elements, count);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(LargestKey16);
HWY_EXPORT(LargestKey32);
HWY_EXPORT(EncodeOnTarget);
HWY_EXPORT(ExtremesOnTarget);

}  // namespace

float LargestElement(DType dtype, const std::byte* elements, int64_t count) {
  if (dtype == DType::kF32) {
    const auto* from = reinterpret_cast<const uint32_t*>(elements);
    return std::bit_cast<float>(std::rotr(HWY_DYNAMIC_DISPATCH(LargestKey32)(from, count), 1));
  }
  const auto* from = reinterpret_cast<const uint16_t*>(elements);
  const auto key = static_cast<uint16_t>(HWY_DYNAMIC_DISPATCH(LargestKey16)(from, count));
  const uint16_t bits = std::rotr(key, 1);
  return dtype == DType::kBF16 ? FromBF16(bits) : FromF16(bits);
}

Extremes ExtremesOf(DType dtype, const std::byte* elements, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(ExtremesOnTarget)(dtype, elements, count);
}

CodeError EncodeRun(const Coding& coding, DType dtype, const std::byte* elements, int64_t count,
                    float scale, float zero, std::byte* codes) {
  return HWY_DYNAMIC_DISPATCH(EncodeOnTarget)(coding, dtype, elements, count, scale, zero, codes);
}

}  // namespace linchpin
#endif  // HWY_ONCE
