#include "quantize/batch_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/batch_kernel.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/group_fit-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

// Calls `visit` with the batch from some lane on and that lane.
template <typename Visit>
HWY_INLINE void ForEachVector(const Batch& batch, const Visit& visit) {
  for (size_t lane = 0; lane < kBatch; lane += hn::Lanes(Floats())) {
    visit(Batch{batch.values + lane, batch.weights + lane, batch.length}, lane);
  }
}

void StoreGrid(const Fit& best, size_t lane, BatchGrid& grid) {
  hn::StoreU(best.scale, Floats(), grid.scale + lane);
  hn::StoreU(best.offset, Floats(), grid.offset + lane);
}

Rounding LoadGrid(const BatchGrid& grid, size_t lane) {
  return {hn::LoadU(Floats(), grid.scale + lane), hn::LoadU(Floats(), grid.offset + lane)};
}

void Affine(const Batch& batch, float high, bool below_zero, BatchGrid& grid) {
  ForEachVector(batch, [&](const Batch& x, size_t lane) {
    StoreGrid(FitAffineLanes(x, high, below_zero), lane, grid);
  });
}

void Symmetric(const Batch& batch, float low, BatchGrid& grid) {
  ForEachVector(batch, [&](const Batch& x, size_t lane) {
    StoreGrid(FitSymmetricLanes(x, low), lane, grid);
  });
}

void Weigh(const Batch& batch, const BatchGrid& grid, float low, float high, float* errors) {
  ForEachVector(batch, [&](const Batch& x, size_t lane) {
    const Rounding rounding = LoadGrid(grid, lane);
    V error = hn::Zero(Floats());
    for (int64_t i = 0; i < x.length; ++i) {
      const V value = At(x.values, i);
      const V miss = rounding.MissOf(value, rounding.CodeOf(value, Splat(low), Splat(high)));
      error = hn::Add(error, hn::Mul(At(x.weights, i), hn::Mul(miss, miss)));
    }
    hn::StoreU(error, Floats(), errors + lane);
  });
}

void Round(const Batch& batch, const BatchGrid& grid, float low, float high, float* codes,
           BatchError& result) {
  ForEachVector(batch, [&](const Batch& x, size_t lane) {
    const Rounding rounding = LoadGrid(grid, lane);
    V worst = hn::Zero(Floats());
    V squares = hn::Zero(Floats());
    for (int64_t i = 0; i < x.length; ++i) {
      const V value = At(x.values, i);
      const V code = rounding.CodeOf(value, Splat(low), Splat(high));
      const V miss = rounding.MissOf(value, code);
      worst = hn::Max(worst, hn::Abs(miss));
      squares = hn::Add(squares, hn::Mul(miss, miss));
      hn::StoreU(code, Floats(), codes + lane + i * kBatch);
    }
    hn::StoreU(worst, Floats(), result.max_abs + lane);
    hn::StoreU(squares, Floats(), result.sum_squares + lane);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(Affine);
HWY_EXPORT(Symmetric);
HWY_EXPORT(Weigh);
HWY_EXPORT(Round);

}  // namespace

BatchGrid FitAffine(const Batch& batch, float high, bool offset_below_zero) {
  BatchGrid grid;
  HWY_DYNAMIC_DISPATCH(Affine)(batch, high, offset_below_zero, grid);
  return grid;
}

BatchGrid FitSymmetric(const Batch& batch, float low) {
  BatchGrid grid;
  HWY_DYNAMIC_DISPATCH(Symmetric)(batch, low, grid);
  return grid;
}

void WeighErrors(const Batch& batch, const BatchGrid& grid, float low, float high,
                 float errors[kBatch]) {
  HWY_DYNAMIC_DISPATCH(Weigh)(batch, grid, low, high, errors);
}

BatchError RoundBatch(const Batch& batch, const BatchGrid& grid, float low, float high,
                      float* codes) {
  BatchError error;
  HWY_DYNAMIC_DISPATCH(Round)(batch, grid, low, high, codes, error);
  return error;
}

}  // namespace linchpin
#endif  // HWY_ONCE
