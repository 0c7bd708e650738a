#include "quantize/slab_encoder.h"

#include <cstring>

#include "quantize/block_encoder.h"
#include "quantize/dense_encoder.h"
#include "quantize/equalization.h"
#include "quantize/packed_tensors.h"
#include "quantize/scale_search.h"

namespace linchpin {
namespace {

static_assert(kSlabRows % kSearchRows == 0);

// compressed-tensors: what PackedTensors lists.
class GroupSlabEncoder : public SlabEncoder {
 public:
  GroupSlabEncoder(const PlanRow& row, const Importance* importance)
      : row_(row),
        coding_(CodingOf(row.scheme, row.asymmetric)),
        importance_(ImportanceOf(row, importance)) {}

  EncodeError Encode(int64_t first, int64_t count, const std::byte* weights,
                     std::vector<std::vector<std::byte>>& bytes) const override {
    const int64_t columns = row_.source.info.shape[1];
    const int64_t groups = columns / row_.group_size;
    bytes.resize(row_.outputs.size());
    bytes[0].resize(static_cast<size_t>(count * coding_.RowBytes(columns)));
    bytes[1].resize(static_cast<size_t>(count * groups * SizeOf(row_.scale_dtype)));
    std::vector<int8_t> zeros(row_.asymmetric ? static_cast<size_t>(count * groups) : 0);
    const std::vector<PinnedElement> pinned = ElementsIn(row_.pinned, first, count);
    const EncodeError error = EncodeGroups({.dtype = row_.read_dtype(),
                                            .scale_dtype = row_.scale_dtype,
                                            .coding = coding_,
                                            .rows = count,
                                            .columns = columns,
                                            .group_size = row_.group_size,
                                            .rule = RuleOf(row_, importance_),
                                            .importance = importance_,
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
  const PlanRow& row_;
  const Coding coding_;
  const std::vector<float> importance_;
};

// GGUF: the blocks of the row's type.
class BlockSlabEncoder : public SlabEncoder {
 public:
  BlockSlabEncoder(const PlanRow& row, const Importance* importance)
      : row_(row), importance_(BlockImportance(row, importance)) {}

  EncodeError Encode(int64_t /*first*/, int64_t count, const std::byte* weights,
                     std::vector<std::vector<std::byte>>& bytes) const override {
    const TensorInfo& output = row_.outputs[0];
    bytes.resize(1);
    bytes[0].resize(static_cast<size_t>(count * output.shape[1]));
    return EncodeBlocks(
        {.type = row_.gguf->type,
         .dtype = row_.read_dtype(),
         .rows = count,
         .columns = output.shape[1] / row_.gguf->type->bytes * row_.gguf->type->elements,
         .importance = importance_,
         .weights = weights,
         .blocks = bytes[0].data()});
  }

  std::vector<std::vector<std::byte>> Constants() const override {
    return std::vector<std::vector<std::byte>>(1);
  }

 private:
  const PlanRow& row_;
  const std::vector<float> importance_;
};

}  // namespace

void SlabEncoder::Measure(int /*pass*/, int64_t /*first*/, int64_t /*count*/,
                          const std::byte* /*weights*/) {}

std::vector<float> ImportanceOf(const PlanRow& row, const Importance* importance) {
  if (importance == nullptr || row.scale != ScaleRule::kImportance) return {};
  const InputStatistics* statistics = FindImportance(*importance, row.source.info.name);
  if (statistics == nullptr) return {};
  InputStatistics seen = *statistics;
  const std::vector<float> factors = FactorsOf(row, importance);
  for (size_t i = 0; i < factors.size(); ++i) seen.mean_squares[i] /= factors[i] * factors[i];
  return ErrorWeights(seen);
}

// Without statistics, as before a forward pass, the plan's rule cannot be kept.
ScaleRule RuleOf(const PlanRow& row, absl::Span<const float> importance) {
  if (row.scale != ScaleRule::kImportance || !importance.empty()) return row.scale;
  return row.asymmetric ? ScaleRule::kMinMax : ScaleRule::kSigned;
}

std::vector<float> BlockImportance(const PlanRow& row, const Importance* importance) {
  if (row.quantized && row.scale == ScaleRule::kMse) {
    return std::vector<float>(static_cast<size_t>(row.source.info.shape[1]), 1.0F);
  }
  return NormalizedImportance(ImportanceOf(row, importance));
}

std::vector<PinnedElement> ElementsIn(const std::vector<PinnedWeight>& weights, int64_t first,
                                      int64_t count) {
  std::vector<PinnedElement> elements;
  for (const PinnedWeight& weight : weights) {
    const int64_t row = weight.position.row - first;
    if (row >= 0 && row < count) elements.push_back({row, weight.position.column});
  }
  return elements;
}

std::unique_ptr<SlabEncoder> MakeEncoder(const QuantizeOptions& options, const PlanRow& row,
                                         const Importance* importance) {
  if (options.format == Format::kGguf) return std::make_unique<BlockSlabEncoder>(row, importance);
  if (options.format == Format::kDense) return MakeDenseEncoder(options, row, importance);
  return std::make_unique<GroupSlabEncoder>(row, importance);
}

}  // namespace linchpin
