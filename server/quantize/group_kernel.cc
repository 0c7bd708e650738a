#include "quantize/group_kernel.h"

#include <bit>

#include "tensor/float16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/group_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

// At most eight lanes, so that a row of any multiple of eight has no tail.
constexpr size_t kWidth = 8;
// Elements whose errors are summed in float32 before they go into a double.
constexpr int64_t kErrorRun = 128;
// Adding 1.5 x 2^23 leaves no fraction bits: the sum is rounded half to even and
// its lowest bits are the integer, here q + 8.
constexpr float kRounder = 12582912.0f + 8.0f;

using Floats = hn::CappedTag<float, kWidth>;

// Rotates the sign to the lowest bit, so that unsigned order is order of
// magnitude and one maximum finds the largest element together with its sign.
template <typename T>
T LargestKey(const T* elements, int64_t count) {
  const hn::CappedTag<T, kWidth> d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(d);
  for (int64_t i = 0; i < count; i += step) {
    const auto v = hn::LoadU(d, elements + i);
    const auto key = hn::Or(hn::ShiftLeft<1>(v), hn::ShiftRight<8 * sizeof(T) - 1>(v));
    largest = hn::Max(largest, key);
  }
  HWY_ALIGN T lanes[kWidth] = {};
  hn::Store(largest, d, lanes);
  T result = 0;
  for (const T lane : lanes) result = lane > result ? lane : result;
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

#if HWY_TARGET == HWY_SCALAR

// At most kErrorRun elements; the same lanes as below, one after the other.
template <class Load>
void EncodeShortRun(const typename Load::Raw* from, int64_t count, float scale, uint8_t* packed,
                    CodeError& total) {
  const hn::CappedTag<float, 1> d;
  float sums[kWidth] = {};
  for (int64_t i = 0; i < count; ++i) {
    const float x = hn::GetLane(Load()(d, from + i)) / scale;
    const float clamped = x < -8.0f ? -8.0f : (x > 7.0f ? 7.0f : x);
    const float shifted = clamped + kRounder;
    const float error = x - (shifted - kRounder);
    sums[i % kWidth] += error * error;
    const float magnitude = error < 0 ? -error : error;
    total.max_abs = magnitude > total.max_abs ? magnitude : total.max_abs;
    const auto code = static_cast<uint8_t>(std::bit_cast<uint32_t>(shifted) & 15);
    packed[i / 2] = i % 2 == 0 ? code : static_cast<uint8_t>(packed[i / 2] | code << 4);
  }
  total.sum_squares += SumOf(sums);
}

#else

// One vector: codes into `packed`, errors into `squares` and `worst`.
template <class Load, class V>
HWY_INLINE void EncodeVector(const typename Load::Raw* from, V scale, uint8_t* packed, V& squares,
                             V& worst) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du32;
  const hn::Repartition<uint64_t, Floats> du64;
  const hn::Rebind<uint8_t, decltype(du64)> du8;
  const auto magic = hn::Set(d, kRounder);

  const V x = hn::Div(Load()(d, from), scale);
  const V clamped = hn::Min(hn::Max(x, hn::Set(d, -8.0f)), hn::Set(d, 7.0f));
  const V shifted = hn::Add(clamped, magic);
  const V error = hn::Sub(x, hn::Sub(shifted, magic));
  squares = hn::Add(squares, hn::Mul(error, error));
  worst = hn::Max(worst, hn::Abs(error));

  const auto code = hn::And(hn::BitCast(du32, shifted), hn::Set(du32, 15U));
  const auto pair = hn::BitCast(du64, code);  // even element low, odd element 32 bits up
  const auto bytes = hn::TruncateTo(du8, hn::Or(pair, hn::ShiftRight<28>(pair)));
  hn::StoreU(bytes, du8, packed);
}

// At most kErrorRun elements.
template <class Load>
void EncodeShortRun(const typename Load::Raw* from, int64_t count, float scale, uint8_t* packed,
                    CodeError& total) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  const auto s = hn::Set(d, scale);
  auto squares_low = hn::Zero(d);
  auto squares_high = hn::Zero(d);
  auto worst = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kWidth) {
    EncodeVector<Load>(from + i, s, packed + i / 2, squares_low, worst);
    if (lanes < kWidth) {
      EncodeVector<Load>(from + i + lanes, s, packed + (i + lanes) / 2, squares_high, worst);
    }
  }
  HWY_ALIGN float sums[kWidth];
  hn::Store(squares_low, d, sums);
  if (lanes < kWidth) hn::Store(squares_high, d, sums + lanes);
  total.sum_squares += SumOf(sums);
  HWY_ALIGN float largest[kWidth] = {};
  hn::Store(worst, d, largest);
  for (const float lane : largest) total.max_abs = lane > total.max_abs ? lane : total.max_abs;
}

#endif  // HWY_TARGET == HWY_SCALAR

template <class Load>
CodeError EncodeAll(const std::byte* elements, int64_t count, float scale, std::byte* packed) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  auto* to = reinterpret_cast<uint8_t*>(packed);
  CodeError total;
  for (int64_t i = 0; i < count; i += kErrorRun) {
    const int64_t run = count - i < kErrorRun ? count - i : kErrorRun;
    EncodeShortRun<Load>(from + i, run, scale, to + i / 2, total);
  }
  return total;
}

CodeError EncodeF32(const std::byte* elements, int64_t count, float scale, std::byte* packed) {
  return EncodeAll<LoadF32>(elements, count, scale, packed);
}
CodeError EncodeF16(const std::byte* elements, int64_t count, float scale, std::byte* packed) {
  return EncodeAll<LoadF16>(elements, count, scale, packed);
}
CodeError EncodeBF16(const std::byte* elements, int64_t count, float scale, std::byte* packed) {
  return EncodeAll<LoadBF16>(elements, count, scale, packed);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(LargestKey16);
HWY_EXPORT(LargestKey32);
HWY_EXPORT(EncodeF32);
HWY_EXPORT(EncodeF16);
HWY_EXPORT(EncodeBF16);

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

CodeError EncodeRun(DType dtype, const std::byte* elements, int64_t count, float scale,
                    std::byte* packed) {
  if (dtype == DType::kF32) return HWY_DYNAMIC_DISPATCH(EncodeF32)(elements, count, scale, packed);
  if (dtype == DType::kF16) return HWY_DYNAMIC_DISPATCH(EncodeF16)(elements, count, scale, packed);
  return HWY_DYNAMIC_DISPATCH(EncodeBF16)(elements, count, scale, packed);
}

}  // namespace linchpin
#endif  // HWY_ONCE
