#include "quantize/block_search.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "format/gguf_pack.h"
#include "quantize/batch_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/block_search.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/group_fit-inl.h"
#include "quantize/half-inl.h"
#include "quantize/turn-inl.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

static_assert(std::endian::native == std::endian::little);  // codes are put together in words

constexpr int64_t kBlock = 32;
constexpr int64_t kBatchValues = kBatch * kBlock;
using Words = hn::RebindToUnsigned<Floats>;

template <int bits, bool affine>
struct SmallBlock {
  static constexpr bool kAffine = affine;
  static constexpr bool kFifthBits = bits == 5;
  static constexpr float kLow = affine ? 0.0f : -static_cast<float>(1 << (bits - 1));
  static constexpr float kHigh = kLow + (1 << bits) - 1;
  static constexpr int64_t kBytes = 2 + (affine ? 2 : 0) + (kFifthBits ? 4 : 0) + 16;

  static HWY_INLINE Fit Search(const Batch& x) {
    if constexpr (affine) return FitAffineLanes(x, kHigh, /*below_zero=*/false);
    return FitSymmetricLanes(x, kLow);
  }
};

// What is stored of sixteen blocks, side by side, and what was lost.
struct Found {
  HWY_ALIGN uint32_t scale[kBatch];   // F16
  HWY_ALIGN uint32_t offset[kBatch];  // F16
  HWY_ALIGN uint32_t nibbles[4][kBatch];
  HWY_ALIGN uint32_t fifth_bits[kBatch];
  HWY_ALIGN float max_abs[kBatch];
  HWY_ALIGN float sum_squares[kBatch];
};

// `codes` are [kBlock, kBatch]; byte j of a block has the nibbles of elements j and j + 16.
template <bool kFifthBits>
HWY_INLINE void PutTogether(const uint32_t* codes, size_t lane, Found& found) {
  const Words d;
  const auto code = [&](int64_t i) { return hn::Load(d, codes + i * kBatch + lane); };
  const auto low = hn::Set(d, 15U);
  for (int64_t word = 0; word < 4; ++word) {
    auto packed = hn::Zero(d);
    for (int64_t byte = 3; byte >= 0; --byte) {
      const int64_t i = 4 * word + byte;
      const auto both = hn::Or(hn::And(code(i), low), hn::ShiftLeft<4>(hn::And(code(i + 16), low)));
      packed = hn::Or(hn::ShiftLeft<8>(packed), both);
    }
    hn::Store(packed, d, found.nibbles[word] + lane);
  }
  if (!kFifthBits) return;
  auto fifths = hn::Zero(d);
  for (int64_t i = kBlock - 1; i >= 0; --i) {
    fifths = hn::Or(hn::Add(fifths, fifths), hn::ShiftRight<4>(code(i)));
  }
  hn::Store(fifths, d, found.fifth_bits + lane);
}

// The blocks of one vector from `lane` on.
template <class Type>
HWY_INLINE void SearchVector(const Batch& x, size_t lane, Found& found) {
  const Floats d;
  const Words du;
  const Fit best = Type::Search(x);
  hn::VFromD<Words> scale, offset;
  const V nearest_scale = NearestHalf(d, best.scale, scale);
  const Rounding rounding(nearest_scale, NearestHalf(d, best.offset, offset));
  hn::Store(scale, du, found.scale + lane);
  hn::Store(offset, du, found.offset + lane);
  HWY_ALIGN uint32_t codes[kBatchValues];
  const V low = Splat(Type::kLow);
  V worst = hn::Zero(d);
  V squares = hn::Zero(d);
  for (int64_t i = 0; i < kBlock; ++i) {
    const V value = At(x.values, i);
    const V code = rounding.CodeOf(value, low, Splat(Type::kHigh));
    const V miss = rounding.MissOf(value, code);
    worst = hn::Max(worst, hn::Abs(miss));
    squares = hn::Add(squares, hn::Mul(miss, miss));
    const auto stored = hn::ConvertTo(hn::RebindToSigned<Floats>(), hn::Sub(code, low));
    hn::Store(hn::BitCast(du, stored), du, codes + i * kBatch + lane);
  }
  hn::Store(worst, d, found.max_abs + lane);
  hn::Store(squares, d, found.sum_squares + lane);
  PutTogether<Type::kFifthBits>(codes, lane, found);
}

// Lays block `g` of those found out.
template <class Type>
HWY_INLINE void StoreBlock(const Found& found, int64_t g, uint8_t* out) {
  PackHalf(static_cast<uint16_t>(found.scale[g]), out);
  out += 2;
  if (Type::kAffine) PackHalf(static_cast<uint16_t>(found.offset[g]), out);
  if (Type::kAffine) out += 2;
  if (Type::kFifthBits) std::memcpy(out, &found.fifth_bits[g], 4);
  if (Type::kFifthBits) out += 4;
  for (int word = 0; word < 4; ++word) std::memcpy(out + 4 * word, &found.nibbles[word][g], 4);
}

// Up to kBatch blocks; those that there are not are zeros.
template <class Load>
HWY_INLINE void LoadBatch(const typename Load::Raw* from, int64_t count, float* batch) {
  const Floats d;
  HWY_ALIGN float values[kBatchValues];
  int64_t i = 0;
  for (; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    hn::Store(Load()(d, from + i), d, values + i);
  }
  for (; i < kBatchValues; ++i) values[i] = 0;
  TurnRows(d, values, kBlock, batch);
}

// Adds up what was lost of the blocks, eight at a time.
void AddErrors(const Found& found, int64_t blocks, BlockError& total) {
  constexpr int64_t kTogether = 8;
  for (int64_t first = 0; first < blocks; first += kTogether) {
    BlockError sum;
    for (int64_t g = first; g < first + kTogether && g < blocks; ++g) {
      sum.Add({found.max_abs[g], found.sum_squares[g]});
    }
    total.Add(sum);
  }
}

template <class Type, class Load>
BlockError SearchRow(const std::byte* elements, int64_t count, const float* importance,
                     uint8_t* out) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(elements);
  HWY_ALIGN float values[kBatchValues];
  Found found;
  BlockError total;
  for (int64_t at = 0; at < count; at += kBatchValues) {
    const int64_t here = count - at < kBatchValues ? count - at : kBatchValues;
    LoadBatch<Load>(from + at, here, values);
    for (size_t lane = 0; lane < kBatch; lane += hn::Lanes(Floats())) {
      SearchVector<Type>({values + lane, importance + at + lane, kBlock}, lane, found);
    }
    const int64_t blocks = here / kBlock;
    for (int64_t g = 0; g < blocks; ++g, out += Type::kBytes) StoreBlock<Type>(found, g, out);
    AddErrors(found, blocks, total);
  }
  return total;
}

template <class Type>
BlockError SearchAs(DType dtype, const std::byte* elements, int64_t count, const float* importance,
                    uint8_t* out) {
  if (dtype == DType::kF32) return SearchRow<Type, LoadF32>(elements, count, importance, out);
  if (dtype == DType::kF16) return SearchRow<Type, LoadF16>(elements, count, importance, out);
  return SearchRow<Type, LoadBF16>(elements, count, importance, out);
}

BlockError SearchOnTarget(BlockRounding type, DType dtype, const std::byte* elements, int64_t count,
                          const float* importance, uint8_t* out) {
  switch (type) {
    case BlockRounding::kQ4_0:
      return SearchAs<SmallBlock<4, false>>(dtype, elements, count, importance, out);
    case BlockRounding::kQ4_1:
      return SearchAs<SmallBlock<4, true>>(dtype, elements, count, importance, out);
    case BlockRounding::kQ5_0:
      return SearchAs<SmallBlock<5, false>>(dtype, elements, count, importance, out);
    default:
      return SearchAs<SmallBlock<5, true>>(dtype, elements, count, importance, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(SearchOnTarget);

}  // namespace

hwy::AlignedFreeUniquePtr<float[]> TurnImportance(std::vector<float> row) {
  constexpr size_t kValues = kBatch * kMaxLength;
  row.resize((row.size() + kValues - 1) / kValues * kValues);
  auto turned = hwy::AllocateAligned<float>(row.size());
  for (size_t at = 0; at < row.size(); at += kValues) {
    StandSideBySide(row.data() + at, kMaxLength, turned.get() + at);
  }
  return turned;
}

BlockError SearchBlocks(BlockRounding type, DType dtype, const std::byte* elements, int64_t count,
                        const float* importance, uint8_t* out) {
  return HWY_DYNAMIC_DISPATCH(SearchOnTarget)(type, dtype, elements, count, importance, out);
}

}  // namespace linchpin
#endif  // HWY_ONCE
