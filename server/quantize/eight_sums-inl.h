// Sums in eight lanes whatever the width of a vector, compiled once per instruction set: the same
// additions in the same order on all of them.

// As Highway has it: read once per target.
#if defined(LINCHPIN_EIGHT_SUMS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LINCHPIN_EIGHT_SUMS_INL_H
#undef LINCHPIN_EIGHT_SUMS_INL_H
#else
#define LINCHPIN_EIGHT_SUMS_INL_H
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

class EightSums {
  using Eight = hn::CappedTag<float, 8>;
  static constexpr size_t kLanes = hn::MaxLanes(Eight());
  static constexpr size_t kVectors = 8 / kLanes;

 public:
  HWY_INLINE EightSums() { Clear(); }

  HWY_INLINE void Clear() {
    for (auto& sum : sums_) sum = hn::Zero(Eight());
  }

  // Of elements from `i`, a multiple of the vector's lanes, on: that of element i goes to
  // lane i mod 8.  A vector has 16 lanes at most.
  template <class D>
  HWY_INLINE void Add(D /*d*/, size_t i, hn::VFromD<D> x) {
#if HWY_MAX_BYTES >= 64
    if constexpr (hn::MaxLanes(D()) > 8) {
      sums_[0] = hn::Add(sums_[0], hn::LowerHalf(Eight(), x));
      sums_[0] = hn::Add(sums_[0], hn::UpperHalf(Eight(), x));
      return;
    } else
#endif
      sums_[i / kLanes % kVectors] = hn::Add(sums_[i / kLanes % kVectors], x);
  }

  HWY_INLINE void StoreTo(float lanes[8]) const {
    for (size_t i = 0; i < kVectors; ++i) hn::StoreU(sums_[i], Eight(), lanes + i * kLanes);
  }

 private:
  hn::VFromD<Eight> sums_[kVectors];
};

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#endif  // per target
