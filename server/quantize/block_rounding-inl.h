// What distinguishes GGUF's types of blocks of 32 when they are rounded, compiled once per
// instruction set: how a block's range becomes its scale, and how codes are laid out.

// As Highway has it: read once per target.
#if defined(LINCHPIN_BLOCK_ROUNDING_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_BLOCK_ROUNDING_INL_H
#undef LINCHPIN_BLOCK_ROUNDING_INL_H
#else
#define LINCHPIN_BLOCK_ROUNDING_INL_H
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "quantize/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kBlock = 32;
using Floats = hn::CappedTag<float, 16>;
using Integers = hn::RebindToSigned<Floats>;
using V = hn::VFromD<Floats>;
using I = hn::VFromD<Integers>;
constexpr size_t kLanes = hn::MaxLanes(Floats());
constexpr size_t kVectors = kBlock / kLanes;  // of a block

HWY_INLINE V Splat(float value) { return hn::Set(Floats(), value); }

// The ends of as many blocks as there are lanes, one per lane.
struct Ends {
  V low;
  V high;
};

// What a block is rounded with, one per lane: code = trunc(min((x - base) * inverse + half,
// high)), read as (code - zero) * scale + offset, both of them F16.
struct Grid {
  V step;
  V base;
};

// A whole number of less than 2^22 as an integer, which the bits of a sum are.
constexpr float kWholeBits = 12582912.0f;  // 1.5 x 2^23
HWY_INLINE I IntegerOf(V whole) {
  const I bits = hn::BitCast(Integers(), hn::Add(whole, Splat(kWholeBits)));
  return hn::Sub(bits, hn::Set(Integers(), 0x4b400000));
}

// An element's code and what is lost of it.
struct Coded {
  I code;
  V error;
};

// One block's numbers, in all lanes.
struct Rounding {
  V inverse;
  V base;
  V scale;
  V offset;
};

HWY_INLINE void StoreNibbles(const I* codes, uint8_t* out) {
  const Integers d;
  const hn::Rebind<uint8_t, Integers> bytes;
  for (size_t i = 0; i < kVectors / 2; ++i) {
    const I low = hn::And(codes[i], hn::Set(d, 15));
    const I high = hn::And(hn::ShiftLeft<4>(codes[i + kVectors / 2]), hn::Set(d, 0xf0));
    hn::StoreU(hn::DemoteTo(bytes, hn::Or(low, high)), bytes, out + i * kLanes);
  }
}

// That of element 0 lowest.
HWY_INLINE void StoreFifthBits(const I* codes, uint8_t* out) {
  const Integers d;
  uint32_t fifths = 0;
  for (size_t i = 0; i < kVectors; ++i) {
    uint8_t bits[8] = {};
    hn::StoreMaskBits(d, hn::Gt(codes[i], hn::Set(d, 15)), bits);
    uint32_t some = 0;
    std::memcpy(&some, bits, sizeof(some));
    fifths |= some << (i * kLanes);
  }
  std::memcpy(out, &fifths, sizeof(fifths));
}

template <int kBits, bool affine>
struct SmallBlock {
  static constexpr bool kAffine = affine;
  static constexpr bool kFifthBits = kBits == 5;
  static constexpr float kZero = affine ? 0 : 1 << (kBits - 1);
  static constexpr float kHigh = (1 << kBits) - 1;
  static constexpr float kHalf = kZero + 0.5f;
  static constexpr size_t kCodeBytes = (kFifthBits ? 4 : 0) + kBlock / 2;

  // The element that the grid starts from: the lowest, or that of largest magnitude with
  // its sign.
  static HWY_INLINE V First(const Ends& ends) {
    return affine ? ends.low
                  : hn::IfThenElse(hn::Gt(ends.high, hn::Neg(ends.low)), ends.high, ends.low);
  }
  // Where the ends do not tell: zeros of both signs, or both ends as large.  The first such
  // element counts.
  static HWY_INLINE auto IsOpen(const Ends& ends) {
    return hn::Eq(affine ? ends.low : hn::Neg(ends.low), affine ? Splat(0.0f) : ends.high);
  }
  static HWY_INLINE bool MayBeFirst(float x, float low, float high) {
    return x == low || (!affine && x == high);
  }

  static HWY_INLINE Grid Fit(V first, const Ends& ends) {
    if (!affine) return {hn::Div(first, Splat(-kZero)), Splat(0.0f)};
    const V span = hn::Add(hn::Sub(ends.high, first), Splat(0.0f));  // never -0
    return {hn::Div(span, Splat(kHigh)), first};
  }

  static HWY_INLINE Coded Code(V x, const Rounding& block) {
    const V u = affine ? hn::Sub(x, block.base) : x;
    const V y = hn::Add(hn::Mul(u, block.inverse), Splat(kHalf));
    const V code = hn::Trunc(hn::Min(y, Splat(kHigh)));
    const V read = affine ? hn::Add(hn::Mul(code, block.scale), block.offset)
                          : hn::Mul(hn::Sub(code, Splat(kZero)), block.scale);
    return {IntegerOf(code), hn::Sub(x, read)};
  }

  static HWY_INLINE void Store(const I* codes, uint8_t* out) {
    if (kFifthBits) StoreFifthBits(codes, out);
    StoreNibbles(codes, out + (kFifthBits ? 4 : 0));
  }
};

// Rounds halves away from zero; codes have a sign.
struct BlockQ8_0 {
  static constexpr bool kAffine = false;
  static constexpr size_t kCodeBytes = kBlock;

  static HWY_INLINE V First(const Ends& ends) { return hn::Max(ends.high, hn::Neg(ends.low)); }
  static HWY_INLINE auto IsOpen(const Ends& /*ends*/) { return hn::FirstN(Floats(), 0); }
  static HWY_INLINE bool MayBeFirst(float, float, float) { return true; }
  static HWY_INLINE Grid Fit(V first, const Ends& /*ends*/) {
    return {hn::Div(hn::Abs(first), Splat(127.0f)), Splat(0.0f)};  // never -0
  }

  static HWY_INLINE Coded Code(V x, const Rounding& block) {
    const V y = hn::Mul(x, block.inverse);
    const V size = hn::Min(hn::Abs(y), Splat(127.0f));
    const V whole = hn::Trunc(size);
    const auto up = hn::Ge(hn::Sub(size, whole), Splat(0.5f));
    const V rounded = hn::Add(whole, hn::IfThenElseZero(up, Splat(1.0f)));
    const V code = hn::CopySign(rounded, y);
    return {IntegerOf(code), hn::Sub(x, hn::Mul(code, block.scale))};
  }

  static HWY_INLINE void Store(const I* codes, uint8_t* out) {
    const hn::Rebind<int8_t, Integers> bytes;
    for (size_t i = 0; i < kVectors; ++i) {
      hn::StoreU(hn::DemoteTo(bytes, codes[i]), bytes, reinterpret_cast<int8_t*>(out) + i * kLanes);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
