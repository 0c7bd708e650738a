#include "quantize/slab_encoder.h"

#include <cstring>

#include "quantize/packed_tensors.h"
#include "quantize/scale_search.h"

namespace linchpin {
namespace {

static_assert(kSlabRows % kSearchRows == 0);

// compressed-tensors: what PackedTensors lists.
class GroupSlabEncoder : public SlabEncoder {
 public:
  GroupSlabEncoder(const PlanRow& row, const Importance* importance)
      : row_(row), coding_(CodingOf(row.scheme, row.asymmetric)) {
    if (importance == nullptr || row.scale != ScaleRule::kImportance) return;
    const InputStatistics* statistics = FindImportance(*importance, row.source.info.name);
    if (statistics != nullptr) error_weights_ = ErrorWeights(*statistics);
  }

  EncodeError Encode(int64_t first, int64_t count, const std::byte* weights,
                     std::vector<std::vector<std::byte>>& bytes) const override {
    const int64_t columns = row_.source.info.shape[1];
    const int64_t groups = columns / row_.group_size;
    bytes.resize(row_.outputs.size());
    bytes[0].resize(static_cast<size_t>(count * coding_.RowBytes(columns)));
    bytes[1].resize(static_cast<size_t>(count * groups * SizeOf(row_.scale_dtype)));
    std::vector<int8_t> zeros(row_.asymmetric ? static_cast<size_t>(count * groups) : 0);
    const std::vector<PinnedElement> pinned = PinnedIn(first, count);
    const EncodeError error = EncodeGroups({.dtype = row_.source.info.dtype,
                                            .scale_dtype = row_.scale_dtype,
                                            .coding = coding_,
                                            .rows = count,
                                            .columns = columns,
                                            .group_size = row_.group_size,
                                            .rule = Rule(),
                                            .importance = error_weights_,
                                            .pinned = pinned,
                                            .weights = weights,
                                            .codes = bytes[0].data(),
                                            .scales = bytes[1].data(),
                                            .zeros = row_.asymmetric ? zeros.data() : nullptr});
    if (row_.asymmetric) bytes[2] = PackZeroPoints(zeros, groups, coding_.bits);
    return error;
  }

  std::vector<std::vector<std::byte>> Constants() const override {
    std::vector<std::vector<std::byte>> constants(row_.outputs.size());
    if (coding_.kind != CodeKind::kPackedInt) return constants;
    const std::vector<int64_t>& shape = row_.source.info.shape;
    constants.back().resize(shape.size() * sizeof(int64_t));
    std::memcpy(constants.back().data(), shape.data(), constants.back().size());
    return constants;
  }

 private:
  // Without statistics, as before a forward pass, the plan's rule cannot be kept.
  ScaleRule Rule() const {
    if (row_.scale != ScaleRule::kImportance || !error_weights_.empty()) return row_.scale;
    return row_.asymmetric ? ScaleRule::kMinMax : ScaleRule::kSigned;
  }
  std::vector<PinnedElement> PinnedIn(int64_t first, int64_t count) const {
    std::vector<PinnedElement> pinned;
    for (const PinnedWeight& weight : row_.pinned) {
      const int64_t row = weight.position.row - first;
      if (row >= 0 && row < count) pinned.push_back({row, weight.position.column});
    }
    return pinned;
  }

  const PlanRow& row_;
  const Coding coding_;
  std::vector<float> error_weights_;  // per input channel; empty: not known
};

}  // namespace

std::unique_ptr<SlabEncoder> MakeEncoder(const PlanRow& row, const Importance* importance) {
  return std::make_unique<GroupSlabEncoder>(row, importance);
}

}  // namespace linchpin
