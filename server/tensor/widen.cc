#include <cstring>

#include "tensor/float16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/widen.cc"
#include "hwy/foreach_target.h"
// foreach_target.h comes first.
#include "hwy/highway.h"
#include "tensor/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace linchpin {
namespace HWY_NAMESPACE {

// As many elements of whole vectors as there are; what is left is for the caller.
template <class Load>
int64_t WidenVectors(const std::byte* source, int64_t count, float* out) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN typename Load::Raw raw[hn::MaxLanes(d)];
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    // The source need not be aligned.
    std::memcpy(raw, source + i * static_cast<int64_t>(sizeof(typename Load::Raw)),
                static_cast<size_t>(lanes) * sizeof(typename Load::Raw));
    hn::StoreU(Load()(d, raw), d, out + i);
  }
  return i;
}

int64_t WidenBF16(const std::byte* source, int64_t count, float* out) {
  return WidenVectors<LoadBF16>(source, count, out);
}
int64_t WidenF16(const std::byte* source, int64_t count, float* out) {
  return WidenVectors<LoadF16>(source, count, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace linchpin
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linchpin {
namespace {

HWY_EXPORT(WidenBF16);
HWY_EXPORT(WidenF16);

}  // namespace

void WidenToFloat(DType dtype, const std::byte* source, int64_t count, float* out) {
  if (dtype == DType::kF32) {
    std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  const bool brain = dtype == DType::kBF16;
  int64_t i = 0;
  if (count > 1) {
    i = brain ? HWY_DYNAMIC_DISPATCH(WidenBF16)(source, count, out)
              : HWY_DYNAMIC_DISPATCH(WidenF16)(source, count, out);
  }
  for (; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, source + 2 * i, 2);
    out[i] = brain ? FromBF16(bits) : FromF16(bits);
  }
}

}  // namespace linchpin
#endif  // HWY_ONCE
