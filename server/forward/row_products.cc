#include "forward/row_products.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "forward/row_products.cc"
// Sums are kept in arrays of vectors, which have no fixed size on these.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

// A sum is taken in so many lanes, in one vector or in several, and these are added up in one
// order: the same sum wherever products are fused with it.
constexpr int64_t kLanes = 16;
using Vector = hn::CappedTag<float, kLanes>;
constexpr int64_t kWidth = hn::MaxLanes(Vector());
constexpr int kParts = kLanes / kWidth;

// Rows and tokens of a tile: as many sums as registers hold beside their
// operands, 32 where vectors have 64 bytes and 16 elsewhere.
constexpr int kTileRows = kParts == 1 ? 6 : 2;
constexpr int kTileTokens = kParts == 1 ? 4 : kParts == 2 ? 3 : 1;

HWY_INLINE float SumOf(float* lanes) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <class Load, int kRows, int kTokens>
void MultiplyTile(const typename Load::Raw* weights, const float* x, int64_t columns, float* out,
                  int64_t stride) {
  const Vector d;
  hn::Vec<Vector> sums[kParts][kRows][kTokens];
#pragma GCC unroll 16
  for (auto& part : sums) {
#pragma GCC unroll 8
    for (auto& row : part) {
#pragma GCC unroll 8
      for (auto& sum : row) sum = hn::Zero(d);
    }
  }
  const int64_t whole = columns / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
#pragma GCC unroll 16
    for (int part = 0; part < kParts; ++part) {
      const int64_t at = k + part * kWidth;
      hn::Vec<Vector> inputs[kTokens];
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) inputs[t] = hn::LoadU(d, x + t * columns + at);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const auto weight = Load()(d, weights + r * columns + at);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          sums[part][r][t] = hn::MulAdd(weight, inputs[t], sums[part][r][t]);
        }
      }
    }
  }
  const hn::CappedTag<float, 1> one;
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTokens; ++t) {
      HWY_ALIGN float lanes[kLanes];
      for (int part = 0; part < kParts; ++part) {
        hn::Store(sums[part][r][t], d, lanes + part * kWidth);
      }
      auto sum = hn::Set(one, SumOf(lanes));
      for (int64_t i = whole; i < columns; ++i) {
        sum = hn::MulAdd(Load()(one, weights + r * columns + i), hn::Set(one, x[t * columns + i]),
                         sum);
      }
      out[t * stride + r] = hn::GetLane(sum);
    }
  }
}

template <class Load, int kTokens>
void MultiplyTokens(const StoredRows& weights, const float* x, float* out, int64_t stride) {
  const auto* from = reinterpret_cast<const typename Load::Raw*>(weights.data);
  const int64_t columns = weights.columns;
  int64_t row = 0;
  for (; row + kTileRows <= weights.rows; row += kTileRows) {
    MultiplyTile<Load, kTileRows, kTokens>(from + row * columns, x, columns, out + row, stride);
  }
  for (; row < weights.rows; ++row) {
    MultiplyTile<Load, 1, kTokens>(from + row * columns, x, columns, out + row, stride);
  }
}

// Rows that stay in a core's cache while all tokens pass.
template <class Load>
void MultiplyBlock(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                   int64_t stride) {
  int64_t token = 0;
  for (; token + kTileTokens <= tokens; token += kTileTokens) {
    MultiplyTokens<Load, kTileTokens>(weights, x + token * weights.columns, out + token * stride,
                                      stride);
  }
  for (; token < tokens; ++token) {
    MultiplyTokens<Load, 1>(weights, x + token * weights.columns, out + token * stride, stride);
  }
}

template <class Load>
void MultiplyAll(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                 int64_t stride) {
  const int64_t step = RowsTogether(weights.columns);
  for (int64_t row = 0; row < weights.rows; row += step) {
    StoredRows block = weights;
    block.data += row * weights.columns * static_cast<int64_t>(sizeof(typename Load::Raw));
    block.rows = weights.rows - row < step ? weights.rows - row : step;
    MultiplyBlock<Load>(block, x, tokens, out + row, stride);
  }
}

void MultiplyF32(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                 int64_t stride) {
  MultiplyAll<LoadF32>(weights, x, tokens, out, stride);
}
void MultiplyF16(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                 int64_t stride) {
  MultiplyAll<LoadF16>(weights, x, tokens, out, stride);
}
void MultiplyBF16(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                  int64_t stride) {
  MultiplyAll<LoadBF16>(weights, x, tokens, out, stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(MultiplyF32);
HWY_EXPORT(MultiplyF16);
HWY_EXPORT(MultiplyBF16);

}  // namespace

int64_t RowsTogether(int64_t columns) {
  constexpr int64_t kElements = 1 << 17;
  constexpr int64_t kTiles = 12;  // a multiple of the rows of every target's tile
  const int64_t rows = kElements / (columns > 0 ? columns : 1);
  return (rows / kTiles + 1) * kTiles;
}

void MultiplyRows(const StoredRows& weights, const float* x, int64_t tokens, float* out,
                  int64_t stride) {
  if (weights.dtype == DType::kF32) {
    HWY_DYNAMIC_DISPATCH(MultiplyF32)(weights, x, tokens, out, stride);
  } else if (weights.dtype == DType::kF16) {
    HWY_DYNAMIC_DISPATCH(MultiplyF16)(weights, x, tokens, out, stride);
  } else {
    HWY_DYNAMIC_DISPATCH(MultiplyBF16)(weights, x, tokens, out, stride);
  }
}

}  // namespace linchpin
#endif  // HWY_ONCE
