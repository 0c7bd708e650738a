#include "quantize/side_by_side.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize/side_by_side.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "quantize/turn-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

void TurnOnTarget(const float* rows, int64_t columns, float* turned) {
  TurnRows(hn::CappedTag<float, kSideBySide>(), rows, columns, turned);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(TurnOnTarget);

}  // namespace

void StandSideBySide(const float* rows, int64_t columns, float* turned) {
  HWY_DYNAMIC_DISPATCH(TurnOnTarget)(rows, columns, turned);
}

}  // namespace linchpin
#endif  // HWY_ONCE
