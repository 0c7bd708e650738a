#include "quantize/group_encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "quantize/group_kernel.h"
#include "quantize/scale_search.h"
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

// Rounded to its dtype and kept within its range; never zero.
float StoredScale(DType dtype, float exact) {
  float scale = RoundTo(dtype, exact);
  if (dtype == DType::kF16 && std::isinf(scale)) scale = std::copysign(65504.0F, scale);
  return scale != 0 ? scale : EpsilonOf(dtype);
}

struct ScaleAndZero {
  float scale = 0;
  float zero = 0;
};

// Some rows of a slab, as many as are searched together.
class RowBlock {
 public:
  RowBlock(const EncodeRequest& request, int64_t first, int64_t count)
      : request_(request),
        first_(first),
        count_(count),
        groups_(request.columns / request.group_size),
        chosen_(static_cast<size_t>(count * groups_)) {}

  EncodeError Encode() {
    EncodeError error;
    const int64_t elements = count_ * request_.columns;
    error.first_non_finite = FirstNonFinite(request_.dtype, RowAt(0), elements);
    if (error.first_non_finite >= 0) return error;
    const bool searched =
        request_.rule == ScaleRule::kImportance || request_.rule == ScaleRule::kMse;
    if (searched) {
      Search();
    } else {
      ApplyRule();
    }
    Pin();
    for (int64_t row = 0; row < count_; ++row) EncodeRow(row, error);
    return error;
  }

 private:
  const std::byte* RowAt(int64_t row) const {
    return request_.weights + (first_ + row) * request_.columns * SizeOf(request_.dtype);
  }
  const std::byte* GroupAt(int64_t row, int64_t group) const {
    return RowAt(row) + group * request_.group_size * SizeOf(request_.dtype);
  }
  ScaleAndZero& ChosenFor(int64_t row, int64_t group) {
    return chosen_[static_cast<size_t>(row * groups_ + group)];
  }

  void ApplyRule() {
    for (int64_t row = 0; row < count_; ++row) {
      for (int64_t group = 0; group < groups_; ++group) {
        ChosenFor(row, group) = request_.coding.asymmetric ? Affine(GroupAt(row, group))
                                                           : Symmetric(GroupAt(row, group));
      }
    }
  }

  ScaleAndZero Symmetric(const std::byte* elements) const {
    const float largest = LargestElement(request_.dtype, elements, request_.group_size);
    return {GroupScale(request_.coding, request_.rule, request_.scale_dtype, largest), 0};
  }

  // Min and max forced to include 0; zp = round(clamp(-8 - min / s)) of 4 bits.
  ScaleAndZero Affine(const std::byte* elements) const {
    const Extremes ends = ExtremesOf(request_.dtype, elements, request_.group_size);
    const Coding& coding = request_.coding;
    const float steps = 2 * coding.full();
    float exact = (ends.greatest - ends.least) / steps;
    if (std::isinf(exact)) exact = ends.greatest / steps - ends.least / steps;
    const float scale = StoredScale(request_.scale_dtype, exact);
    if (exact == 0) return {scale, 0};
    const float place = -coding.exact() - ends.least / scale;
    return {scale, std::nearbyint(std::clamp(place, -coding.exact(), coding.exact() - 1))};
  }

  void Search() {
    const auto elements = static_cast<size_t>(request_.group_size * kSearchRows);
    std::vector<float> rows(elements);  // those that there are not stay zeros
    const auto columns = hwy::AllocateAligned<float>(elements);  // each a vector in one line
    for (int64_t group = 0; group < groups_; ++group) {
      for (int64_t row = 0; row < count_; ++row) {
        WidenToFloat(request_.dtype, GroupAt(row, group), request_.group_size,
                     rows.data() + row * request_.group_size);
      }
      StandSideBySide(rows.data(), request_.group_size, columns.get());
      const bool weighed = request_.rule == ScaleRule::kImportance;
      const BlockScales found = SearchScales(
          {.coding = request_.coding,
           .scale_dtype = request_.scale_dtype,
           .columns = request_.group_size,
           .weights = columns.get(),
           .importance =
               weighed ? request_.importance.data() + group * request_.group_size : nullptr});
      for (int64_t row = 0; row < count_; ++row) Take(found, row, group);
    }
  }

  // What the search did not find is left to the rule without one.
  void Take(const BlockScales& found, int64_t row, int64_t group) {
    ScaleAndZero& chosen = ChosenFor(row, group);
    chosen = {found.scale[row], found.zero[row]};
    if (chosen.scale != 0 && std::isfinite(chosen.scale)) return;
    const std::byte* elements = GroupAt(row, group);
    const float largest = LargestElement(request_.dtype, elements, request_.group_size);
    chosen = request_.coding.asymmetric
                 ? Affine(elements)
                 : ScaleAndZero{GroupScale(request_.coding, ScaleRule::kSigned,
                                           request_.scale_dtype, largest),
                                0};
  }

  void Pin() {
    for (const PinnedElement& pinned : request_.pinned) {
      const int64_t row = pinned.row - first_;
      if (row < 0 || row >= count_) continue;
      const int64_t group = pinned.column / request_.group_size;
      const float value = ElementAt(request_.dtype, RowAt(row), pinned.column);
      const float largest =
          LargestElement(request_.dtype, GroupAt(row, group), request_.group_size);
      const float scale = PinnedScale(request_.coding.bits, request_.scale_dtype, value, largest);
      if (scale != 0) ChosenFor(row, group) = {scale, 0};
    }
  }

  void EncodeRow(int64_t row, EncodeError& error) {
    const int64_t code_bytes = request_.coding.RowBytes(request_.group_size);
    double row_squares = 0;
    for (int64_t group = 0; group < groups_; ++group) {
      const ScaleAndZero chosen = ChosenFor(row, group);
      const int64_t index = (first_ + row) * groups_ + group;
      const CodeError lost =
          EncodeRun(request_.coding, request_.dtype, GroupAt(row, group), request_.group_size,
                    chosen.scale, chosen.zero, request_.codes + index * code_bytes);
      const double step = std::fabs(static_cast<double>(chosen.scale));
      error.max_abs = std::max(error.max_abs, step * lost.max_abs);
      row_squares += step * step * lost.sum_squares;
      StoreAs(request_.scale_dtype, chosen.scale,
              request_.scales + index * SizeOf(request_.scale_dtype));
      if (request_.zeros != nullptr) request_.zeros[index] = static_cast<int8_t>(chosen.zero);
    }
    error.sum_squares += row_squares;
  }

  const EncodeRequest& request_;
  const int64_t first_;
  const int64_t count_;
  const int64_t groups_;
  std::vector<ScaleAndZero> chosen_;  // per row and group
};

}  // namespace

void EncodeError::Add(const EncodeError& next, int64_t next_first_element) {
  max_abs = std::max(max_abs, next.max_abs);
  sum_squares += next.sum_squares;
  if (first_non_finite < 0 && next.first_non_finite >= 0) {
    first_non_finite = next_first_element + next.first_non_finite;
  }
}

float GroupScale(const Coding& coding, ScaleRule rule, DType dtype, float largest) {
  const float exact =
      rule == ScaleRule::kSigned ? largest / -coding.exact() : std::fabs(largest) / coding.full();
  return StoredScale(dtype, exact);
}

float PinnedScale(int bits, DType dtype, float value, float largest) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const auto exact = [dtype](float scale, float divisor, float whole) {
    return RoundTo(dtype, scale) == scale && scale * divisor == whole;
  };
  const float magnitude = std::fabs(value);
  const auto last = static_cast<float>(1 << (bits - 1));
  if (std::fabs(largest) <= magnitude && exact(value / -last, -last, value)) return value / -last;
  for (int exponent = bits - 2; exponent >= 0; --exponent) {
    const auto code = static_cast<float>(1 << exponent);
    const float step = magnitude / code;
    if (!exact(step, code, magnitude) || std::fabs(largest) > last * step) continue;
    return std::copysign(step, -largest);
  }
  return 0;
}

EncodeError EncodeGroups(const EncodeRequest& request) {
  EncodeError total;
  for (int64_t first = 0; first < request.rows; first += kSearchRows) {
    const int64_t count = std::min(kSearchRows, request.rows - first);
    total.Add(RowBlock(request, first, count).Encode(), first * request.columns);
    if (total.first_non_finite >= 0) return total;
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
