#include "quantize/block_kernel.h"

#include <bit>

#include "format/gguf_pack.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/block_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kBlock = 32;
constexpr int64_t kErrorBlocks = 4;  // whose errors are summed in float32

// The bits of the nearest F16, ties to even; what is too large becomes 65504.
HWY_INLINE uint16_t HalfBits(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude >= 0x477fe000U) return sign | 0x7bff;
  if (magnitude < 0x38800000U) {  // the sum's last bit counts 2^-24
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(sum) - 0x3f000000U);
  }
  return sign | static_cast<uint16_t>(((magnitude + 0xfffU + (magnitude >> 13 & 1U)) >> 13) -
                                      (112U << 10));
}

HWY_INLINE float HalfValue(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000U) << 16;
  const uint32_t magnitude = (bits & 0x7fffU) << 13;
  if (magnitude < 0x00800000U) {
    const float value = std::bit_cast<float>(magnitude + (113U << 23)) - 0x1p-14f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  return std::bit_cast<float>((magnitude + (112U << 23)) | sign);
}

// What a block is rounded with: code = trunc(min((x - base) * inverse + half,
// high)), read as (code - zero) * scale + offset.
struct Grid {
  float base = 0;
  float inverse = 0;
  uint16_t scale = 0;
  uint16_t offset = 0;
};

HWY_INLINE float InverseOf(float step) {
  const float inverse = step == 0.0f ? 0.0f : 1.0f / step;
  return inverse - inverse == 0.0f ? inverse : 0.0f;  // 0 where it overflows
}

template <int kBits>
struct Symmetric {
  static constexpr bool kAffine = false;
  static constexpr bool kFifthBits = kBits == 5;
  static constexpr float kZero = 1 << (kBits - 1);
  static constexpr float kHigh = 2 * kZero - 1;
  static constexpr float kHalf = kZero + 0.5f;

  // The element of largest magnitude with its sign, of equal ones the first.
  static HWY_INLINE float Largest(const float* x, float low, float high) {
    if (high != -low) return high > -low ? high : low;
    int i = 0;
    while (x[i] != high && x[i] != low) ++i;
    return x[i];
  }
  static HWY_INLINE Grid Fit(const float* x, float low, float high) {
    const float step = Largest(x, low, high) / -kZero;
    return {0.0f, InverseOf(step), HalfBits(step), 0};
  }
};

template <int kBits>
struct Affine {
  static constexpr bool kAffine = true;
  static constexpr bool kFifthBits = kBits == 5;
  static constexpr float kZero = 0;
  static constexpr float kHigh = (1 << kBits) - 1;
  static constexpr float kHalf = 0.5f;

  // Of zeros of both signs the first counts.
  static HWY_INLINE float Lowest(const float* x, float low) {
    if (low != 0.0f) return low;
    int i = 0;
    while (x[i] != 0.0f) ++i;
    return x[i];
  }
  static HWY_INLINE Grid Fit(const float* x, float low, float high) {
    low = Lowest(x, low);
    const float step = high == low ? 0.0f : (high - low) / kHigh;
    return {low, InverseOf(step), HalfBits(step), HalfBits(low)};
  }
};

// Errors of up to kErrorBlocks blocks; sums in eight lanes whatever the width.
class Errors {
  using D = hn::CappedTag<float, 8>;
  static constexpr size_t kLanes = hn::MaxLanes(D());

 public:
  HWY_INLINE Errors() {
    for (auto& sum : sums_) sum = hn::Zero(D());
    worst_ = hn::Zero(D());
  }

  // Of the elements from `i` on.
  HWY_INLINE void Add(size_t i, hn::VFromD<D> error) {
    auto& sum = sums_[i / kLanes % (8 / kLanes)];
    sum = hn::Add(sum, hn::Mul(error, error));
    worst_ = hn::Max(worst_, hn::Abs(error));
  }

  HWY_INLINE void FlushTo(BlockError& total) {
    HWY_ALIGN float lanes[8];
    for (size_t i = 0; i < 8 / kLanes; ++i) {
      hn::Store(sums_[i], D(), lanes + i * kLanes);
      sums_[i] = hn::Zero(D());
    }
    double sum = 0;
    for (const float lane : lanes) sum += lane;
    total.sum_squares += sum;
    const double worst = hn::GetLane(hn::MaxOfLanes(D(), worst_));
    total.max_abs = worst > total.max_abs ? worst : total.max_abs;
  }

 private:
  hn::VFromD<D> sums_[8 / kLanes];
  hn::VFromD<D> worst_;
};

using Floats = hn::CappedTag<float, 8>;
using Bytes = hn::Rebind<uint8_t, Floats>;
using Integers = hn::RebindToSigned<Floats>;

struct Range {
  float low;
  float high;
};

// Widens a block into `x`.
template <class Load>
HWY_INLINE Range LoadBlock(const typename Load::Raw* from, float* x) {
  const Floats d;
  auto low = Load()(d, from);
  auto high = low;
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto v = Load()(d, from + i);
    hn::Store(v, d, x + i);
    low = hn::Min(low, v);
    high = hn::Max(high, v);
  }
  return {hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high))};
}

template <class Type>
HWY_INLINE void RoundBlock(const float* x, const Grid& grid, uint8_t* codes, Errors& errors) {
  const Floats d;
  const auto scale = hn::Set(d, HalfValue(grid.scale));
  const auto offset = hn::Set(d, HalfValue(grid.offset));
  const auto base = hn::Set(d, grid.base);
  const auto inverse = hn::Set(d, grid.inverse);
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto v = hn::Load(d, x + i);
    const auto y = hn::Add(hn::Mul(hn::Sub(v, base), inverse), hn::Set(d, Type::kHalf));
    const auto code = hn::ConvertTo(Integers(), hn::Min(y, hn::Set(d, Type::kHigh)));
    hn::StoreU(hn::DemoteTo(Bytes(), code), Bytes(), codes + i);
    const auto steps = hn::Sub(hn::ConvertTo(d, code), hn::Set(d, Type::kZero));
    const auto read = hn::Mul(steps, scale);
    errors.Add(i, hn::Sub(v, Type::kAffine ? hn::Add(read, offset) : read));
  }
}

template <class Type, class Load>
BlockError RoundAll(const std::byte* elements, int64_t blocks, std::byte* out) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  auto* to = reinterpret_cast<uint8_t*>(out);
  HWY_ALIGN float x[kBlock];
  uint8_t codes[kBlock];
  BlockError total;
  Errors errors;
  for (int64_t block = 0; block < blocks; ++block, from += kBlock) {
    const Range range = LoadBlock<Load>(from, x);
    const Grid grid = Type::Fit(x, range.low, range.high);
    RoundBlock<Type>(x, grid, codes, errors);
    PackHalf(grid.scale, to);
    to += 2;
    if (Type::kAffine) PackHalf(grid.offset, to);
    if (Type::kAffine) to += 2;
    if (Type::kFifthBits) PackFifthBits(codes, to);
    if (Type::kFifthBits) to += 4;
    PackNibbles(codes, to);
    to += 16;
    if (block % kErrorBlocks == kErrorBlocks - 1) errors.FlushTo(total);
  }
  errors.FlushTo(total);
  return total;
}

// Q8_0 rounds halves away from zero, and its codes have a sign.
HWY_INLINE void RoundBlockQ8_0(const float* x, const Grid& grid, uint8_t* codes, Errors& errors) {
  const Floats d;
  const hn::Rebind<int8_t, Floats> signed_bytes;
  const auto scale = hn::Set(d, HalfValue(grid.scale));
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    const auto v = hn::Load(d, x + i);
    const auto y = hn::Mul(v, hn::Set(d, grid.inverse));
    const auto magnitude = hn::Min(hn::Abs(y), hn::Set(d, 127.0f));
    const auto whole = hn::Trunc(magnitude);
    const auto up = hn::Ge(hn::Sub(magnitude, whole), hn::Set(d, 0.5f));
    const auto rounded = hn::Add(whole, hn::IfThenElseZero(up, hn::Set(d, 1.0f)));
    const auto code = hn::CopySign(rounded, y);
    hn::StoreU(hn::DemoteTo(signed_bytes, hn::ConvertTo(Integers(), code)), signed_bytes,
               reinterpret_cast<int8_t*>(codes) + i);
    errors.Add(i, hn::Sub(v, hn::Mul(code, scale)));
  }
}

template <class Load>
BlockError RoundAllQ8_0(const std::byte* elements, int64_t blocks, std::byte* out) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  auto* to = reinterpret_cast<uint8_t*>(out);
  HWY_ALIGN float x[kBlock];
  BlockError total;
  Errors errors;
  for (int64_t block = 0; block < blocks; ++block, from += kBlock, to += 2 + kBlock) {
    const Range range = LoadBlock<Load>(from, x);
    const float largest = range.high > -range.low ? range.high : -range.low;
    const float step = largest == 0.0f ? 0.0f : largest / 127.0f;  // never -0
    const Grid grid = {0.0f, InverseOf(step), HalfBits(step), 0};
    PackHalf(grid.scale, to);
    RoundBlockQ8_0(x, grid, to + 2, errors);
    if (block % kErrorBlocks == kErrorBlocks - 1) errors.FlushTo(total);
  }
  errors.FlushTo(total);
  return total;
}

template <class Load>
BlockError RoundAs(BlockRounding rounding, const std::byte* elements, int64_t blocks,
                   std::byte* out) {
  switch (rounding) {
    case BlockRounding::kQ8_0:
      return RoundAllQ8_0<Load>(elements, blocks, out);
    case BlockRounding::kQ4_0:
      return RoundAll<Symmetric<4>, Load>(elements, blocks, out);
    case BlockRounding::kQ4_1:
      return RoundAll<Affine<4>, Load>(elements, blocks, out);
    case BlockRounding::kQ5_0:
      return RoundAll<Symmetric<5>, Load>(elements, blocks, out);
    default:
      return RoundAll<Affine<5>, Load>(elements, blocks, out);
  }
}

BlockError RoundF32(BlockRounding rounding, const std::byte* elements, int64_t blocks,
                    std::byte* out) {
  return RoundAs<LoadF32>(rounding, elements, blocks, out);
}
BlockError RoundF16(BlockRounding rounding, const std::byte* elements, int64_t blocks,
                    std::byte* out) {
  return RoundAs<LoadF16>(rounding, elements, blocks, out);
}
BlockError RoundBF16(BlockRounding rounding, const std::byte* elements, int64_t blocks,
                     std::byte* out) {
  return RoundAs<LoadBF16>(rounding, elements, blocks, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(RoundF32);
HWY_EXPORT(RoundF16);
HWY_EXPORT(RoundBF16);

}  // namespace

BlockError RoundBlocks(BlockRounding rounding, DType dtype, const std::byte* elements,
                       int64_t blocks, std::byte* out) {
  if (dtype == DType::kF32) return HWY_DYNAMIC_DISPATCH(RoundF32)(rounding, elements, blocks, out);
  if (dtype == DType::kF16) return HWY_DYNAMIC_DISPATCH(RoundF16)(rounding, elements, blocks, out);
  return HWY_DYNAMIC_DISPATCH(RoundBF16)(rounding, elements, blocks, out);
}

}  // namespace linchpin
#endif  // HWY_ONCE
