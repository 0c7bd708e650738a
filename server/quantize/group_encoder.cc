#include "quantize/group_encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "quantize/group_kernel.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// The kernels store codes as bytes and words, low element first.
static_assert(std::endian::native == std::endian::little);

float EpsilonOf(DType dtype) {
  if (dtype == DType::kBF16) return 0x1p-7F;
  if (dtype == DType::kF16) return 0x1p-10F;
  return std::numeric_limits<float>::epsilon();
}

float ElementAt(DType dtype, const std::byte* elements, int64_t index) {
  float value = 0;
  WidenToFloat(dtype, elements + index * SizeOf(dtype), 1, &value);
  return value;
}

// One group of a slab: its row, and its columns [first, first + size).
struct Group {
  int64_t row = 0;
  int64_t first = 0;
  const std::byte* elements = nullptr;
};

float ScaleOf(const EncodeRequest& request, const Group& group, float largest) {
  for (const PinnedElement& pinned : request.pinned) {
    const int64_t index = pinned.column - group.first;
    if (pinned.row != group.row || index < 0 || index >= request.group_size) continue;
    const float value = ElementAt(request.dtype, group.elements, index);
    if (const float scale = PinnedScale(request.dtype, value, largest); scale != 0) return scale;
  }
  return GroupScale(request.rule, request.dtype, largest);
}

}  // namespace

void EncodeError::Add(const EncodeError& next, int64_t next_first_element) {
  max_abs = std::max(max_abs, next.max_abs);
  sum_squares += next.sum_squares;
  if (first_non_finite < 0 && next.first_non_finite >= 0) {
    first_non_finite = next_first_element + next.first_non_finite;
  }
}

float GroupScale(ScaleRule rule, DType dtype, float largest) {
  const float exact = rule == ScaleRule::kSigned ? largest / -8.0F : std::fabs(largest) / 7.5F;
  const float scale = RoundTo(dtype, exact);
  return scale != 0 ? scale : EpsilonOf(dtype);
}

float PinnedScale(DType dtype, float value, float largest) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const auto exact = [dtype](float scale, float divisor, float whole) {
    return RoundTo(dtype, scale) == scale && scale * divisor == whole;
  };
  const float magnitude = std::fabs(value);
  if (std::fabs(largest) <= magnitude && exact(value / -8.0F, -8.0F, value)) return value / -8.0F;
  for (const float code : {4.0F, 2.0F, 1.0F}) {
    const float step = magnitude / code;
    if (!exact(step, code, magnitude) || std::fabs(largest) > 8.0F * step) continue;
    return std::copysign(step, -largest);
  }
  return 0;
}

EncodeError EncodeGroups(const EncodeRequest& request) {
  EncodeError total;
  const int64_t element_size = SizeOf(request.dtype);
  std::byte* packed = request.packed;
  std::byte* scales = request.scales;
  for (int64_t row = 0; row < request.rows; ++row) {
    double row_squares = 0;
    for (int64_t first = 0; first < request.columns; first += request.group_size) {
      const int64_t index = row * request.columns + first;
      const Group group{row, first, request.weights + index * element_size};
      const float largest = LargestElement(request.dtype, group.elements, request.group_size);
      if (!std::isfinite(largest)) {
        total.first_non_finite =
            index + FirstNonFinite(request.dtype, group.elements, request.group_size);
        return total;
      }
      const float scale = ScaleOf(request, group, largest);
      const CodeError error =
          EncodeRun(request.dtype, group.elements, request.group_size, scale, packed);
      const double step = std::fabs(static_cast<double>(scale));
      total.max_abs = std::max(total.max_abs, step * error.max_abs);
      row_squares += step * step * error.sum_squares;
      StoreAs(request.dtype, scale, scales);
      packed += request.group_size / 2;
      scales += element_size;
    }
    total.sum_squares += row_squares;
  }
  return total;
}

int64_t FirstNonFinite(DType dtype, const std::byte* elements, int64_t count) {
  constexpr int64_t kRun = 4096;
  for (int64_t first = 0; first < count; first += kRun) {
    const int64_t run = std::min(kRun, count - first);
    const std::byte* from = elements + first * SizeOf(dtype);
    // The kernel takes whole eights; the rest is looked at one by one.
    if (run % 8 == 0 && std::isfinite(LargestElement(dtype, from, run))) continue;
    for (int64_t i = 0; i < run; ++i) {
      if (!std::isfinite(ElementAt(dtype, from, i))) return first + i;
    }
  }
  return -1;
}

}  // namespace linchpin
