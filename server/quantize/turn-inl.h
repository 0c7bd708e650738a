// Turns rows as side_by_side.h says, compiled once per instruction set.

// As Highway has it: read once per target.
#if defined(LINCHPIN_TURN_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_TURN_INL_H
#undef LINCHPIN_TURN_INL_H
#else
#define LINCHPIN_TURN_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "quantize/side_by_side.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// In two steps: every fourth row first, four at a time, then the four of those.
template <class D>
HWY_INLINE void TurnRows(D d, const float* rows, int64_t columns, float* turned) {
  constexpr int64_t kRows = kSideBySide;
  constexpr int64_t kFours = 4;
  static_assert(kRows == kFours * 4);
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float fours[kFours][4 * hn::MaxLanes(d)];
  const int64_t whole = columns - columns % lanes;
  for (int64_t column = 0; column < whole; column += lanes) {
    const auto row = [&](int64_t r) { return hn::LoadU(d, rows + r * columns + column); };
    for (int64_t j = 0; j < kFours; ++j) {
      hn::StoreInterleaved4(row(j), row(j + kFours), row(j + 2 * kFours), row(j + 3 * kFours), d,
                            fours[j]);
    }
    for (int64_t part = 0; part < 4; ++part) {
      const auto four = [&](int64_t j) { return hn::Load(d, fours[j] + part * lanes); };
      float* to = turned + column * kRows + part * kFours * lanes;
      hn::StoreInterleaved4(four(0), four(1), four(2), four(3), d, to);
    }
  }
  for (int64_t column = whole; column < columns; ++column) {
    for (int64_t r = 0; r < kRows; ++r) turned[column * kRows + r] = rows[r * columns + column];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
