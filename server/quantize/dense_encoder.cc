#include "quantize/dense_encoder.h"

#include <optional>
#include <utility>
#include <vector>

#include "quantize/block_encoder.h"
#include "quantize/clipped_blocks.h"
#include "quantize/pruning.h"
#include "tensor/float16.h"
#include "tensor/float8.h"

namespace linchpin {
namespace {

// Weights as their scheme gives them back.
class Rounding {
 public:
  virtual ~Rounding() = default;
  virtual int passes() const { return 0; }
  virtual void Measure(int /*pass*/, int64_t /*first*/, absl::Span<const float> /*weights*/) {}
  // Of whole rows from `first` on, in place.
  virtual EncodeError Round(int64_t first, int64_t rows, absl::Span<float> weights) const = 0;
};

const std::byte* BytesOf(absl::Span<const float> values) {
  return reinterpret_cast<const std::byte*>(values.data());
}

// The schemes of compressed-tensors.
class GroupRounding : public Rounding {
 public:
  GroupRounding(const PlanRow& row, const Importance* importance)
      : row_(row),
        coding_(CodingOf(row.scheme, row.asymmetric)),
        importance_(ImportanceOf(row, importance)) {}

  EncodeError Round(int64_t /*first*/, int64_t rows, absl::Span<float> weights) const override {
    const int64_t columns = row_.source.info.shape[1];
    const int64_t groups = rows * columns / row_.group_size;
    std::vector<std::byte> codes(static_cast<size_t>(rows * coding_.RowBytes(columns)));
    std::vector<std::byte> scales(static_cast<size_t>(groups * SizeOf(row_.scale_dtype)));
    std::vector<int8_t> zeros(static_cast<size_t>(groups));
    const EncodeError error = EncodeGroups({.dtype = DType::kF32,
                                            .scale_dtype = row_.scale_dtype,
                                            .coding = coding_,
                                            .rows = rows,
                                            .columns = columns,
                                            .group_size = row_.group_size,
                                            .rule = RuleOf(row_, importance_),
                                            .importance = importance_,
                                            .weights = BytesOf(weights),
                                            .codes = codes.data(),
                                            .scales = scales.data(),
                                            .zeros = row_.asymmetric ? zeros.data() : nullptr});
    if (error.first_non_finite >= 0) return error;
    std::vector<float> steps(static_cast<size_t>(groups));
    WidenToFloat(row_.scale_dtype, scales.data(), groups, steps.data());
    for (size_t i = 0; i < weights.size(); ++i) {
      const size_t group = i / static_cast<size_t>(row_.group_size);
      weights[i] = (CodeAt(codes, i) - static_cast<float>(zeros[group])) * steps[group];
    }
    return error;
  }

 private:
  float CodeAt(const std::vector<std::byte>& codes, size_t i) const {
    const auto byte = static_cast<uint8_t>(codes[i * static_cast<size_t>(coding_.bits) / 8]);
    if (coding_.kind == CodeKind::kFloat8) return FromF8E4M3(byte);
    if (coding_.kind == CodeKind::kInt8) return static_cast<float>(static_cast<int8_t>(byte));
    if (coding_.bits == 8) return static_cast<float>(byte) - 128;
    return static_cast<float>(byte >> i % 2 * 4 & 15) - 8;
  }

  const PlanRow& row_;
  const Coding coding_;
  const std::vector<float> importance_;
};

// The element types of GGUF.
class BlockRoundTrip : public Rounding {
 public:
  BlockRoundTrip(const PlanRow& row, const Importance* importance)
      : row_(row),
        type_(*FindGgufBlockType(TraitsOf(row.scheme).gguf_type)),
        importance_(BlockImportance(row, importance)) {}

  EncodeError Round(int64_t /*first*/, int64_t rows, absl::Span<float> weights) const override {
    const auto count = static_cast<int64_t>(weights.size()) / type_.elements;
    std::vector<std::byte> blocks(static_cast<size_t>(count * type_.bytes));
    const EncodeError error = EncodeBlocks({.type = &type_,
                                            .dtype = DType::kF32,
                                            .rows = rows,
                                            .columns = row_.source.info.shape[1],
                                            .importance = importance_,
                                            .weights = BytesOf(weights),
                                            .blocks = blocks.data()});
    if (error.first_non_finite >= 0) return error;
    if (type_.dtype) {
      WidenToFloat(*type_.dtype, blocks.data(), count, weights.data());
    } else {
      type_.decode(blocks.data(), count, weights.data());
    }
    return error;
  }

 private:
  const PlanRow& row_;
  const GgufBlockType& type_;
  const std::vector<float> importance_;
};

// The paper's scheme.  Where it does not clip, a super weight that is put back is
// no part of its block's range.
class PaperRounding : public Rounding {
 public:
  PaperRounding(const BlockOptions& options, const PlanRow& row)
      : row_(row),
        holds_out_(options.z == 0),
        blocks_(options, row.source.info.shape[0], row.source.info.shape[1]) {}

  int passes() const override { return 1; }
  void Measure(int /*pass*/, int64_t first, absl::Span<const float> weights) override {
    const int64_t rows = static_cast<int64_t>(weights.size()) / row_.source.info.shape[1];
    std::vector<PinnedElement> held_out;
    if (holds_out_) held_out = ElementsIn(row_.held_out, first, rows);
    blocks_.Measure(first, weights, held_out);
  }
  EncodeError Round(int64_t first, int64_t /*rows*/, absl::Span<float> weights) const override {
    return blocks_.Round(first, weights);
  }

 private:
  const PlanRow& row_;
  const bool holds_out_;
  ClippedBlocks blocks_;
};

// No rounding: zero, or as it was.
class Pruning : public Rounding {
 public:
  Pruning(double sparsity, const PlanRow& row)
      : row_(row), pruning_(sparsity, row.source.info.shape[0], row.source.info.shape[1]) {}

  int passes() const override { return MagnitudePruning::kPasses; }
  void Measure(int pass, int64_t first, absl::Span<const float> weights) override {
    const int64_t rows = static_cast<int64_t>(weights.size()) / row_.source.info.shape[1];
    pruning_.Measure(pass, first, weights, ElementsIn(row_.held_out, first, rows));
  }
  EncodeError Round(int64_t first, int64_t rows, absl::Span<float> weights) const override {
    return pruning_.Prune(first, weights, ElementsIn(row_.held_out, first, rows));
  }

 private:
  const PlanRow& row_;
  MagnitudePruning pruning_;
};

class Pruning2Of4 : public Rounding {
 public:
  explicit Pruning2Of4(const PlanRow& row) : row_(row) {}

  EncodeError Round(int64_t first, int64_t rows, absl::Span<float> weights) const override {
    return PruneTwoOfFour(row_.source.info.shape[1], weights,
                          ElementsIn(row_.held_out, first, rows));
  }

 private:
  const PlanRow& row_;
};

std::unique_ptr<Rounding> MakeRounding(const QuantizeOptions& options, const PlanRow& row,
                                       const Importance* importance) {
  const CodeKind codes = TraitsOf(row.scheme).codes;
  if (row.scheme == Scheme::kBlocks) return std::make_unique<PaperRounding>(options.blocks, row);
  if (row.scheme == Scheme::kPruned) return std::make_unique<Pruning>(options.sparsity, row);
  if (row.scheme == Scheme::kPruned2Of4) return std::make_unique<Pruning2Of4>(row);
  if (codes == CodeKind::kGgufBlocks) return std::make_unique<BlockRoundTrip>(row, importance);
  return std::make_unique<GroupRounding>(row, importance);
}

class DenseSlabEncoder : public SlabEncoder {
 public:
  DenseSlabEncoder(const PlanRow& row, std::unique_ptr<Rounding> rounding)
      : row_(row), rounding_(std::move(rounding)) {}

  int passes() const override { return rounding_->passes(); }
  void Measure(int pass, int64_t first, int64_t count, const std::byte* weights) override {
    rounding_->Measure(pass, first, Widen(count, weights));
  }

  EncodeError Encode(int64_t first, int64_t count, const std::byte* weights,
                     std::vector<std::vector<std::byte>>& bytes) const override {
    std::vector<float> values = Widen(count, weights);
    const EncodeError error = rounding_->Round(first, count, absl::MakeSpan(values));
    if (error.first_non_finite >= 0) return error;
    for (const PinnedWeight& weight : row_.held_out) {
      const int64_t row = weight.position.row - first;
      if (row < 0 || row >= count) continue;
      values[static_cast<size_t>(row * Columns() + weight.position.column)] = weight.value;
    }
    const int64_t size = SizeOf(row_.dtype);
    bytes.resize(1);
    bytes[0].resize(values.size() * static_cast<size_t>(size));
    NarrowFromFloat(row_.dtype, values.data(), static_cast<int64_t>(values.size()),
                    bytes[0].data());
    return error;
  }

  std::vector<std::vector<std::byte>> Constants() const override {
    return std::vector<std::vector<std::byte>>(1);
  }

 private:
  int64_t Columns() const { return row_.source.info.shape[1]; }
  std::vector<float> Widen(int64_t count, const std::byte* weights) const {
    std::vector<float> values(static_cast<size_t>(count * Columns()));
    WidenToFloat(row_.read_dtype(), weights, count * Columns(), values.data());
    return values;
  }

  const PlanRow& row_;
  const std::unique_ptr<Rounding> rounding_;
};

}  // namespace

std::unique_ptr<SlabEncoder> MakeDenseEncoder(const QuantizeOptions& options, const PlanRow& row,
                                              const Importance* importance) {
  return std::make_unique<DenseSlabEncoder>(row, MakeRounding(options, row, importance));
}

}  // namespace linchpin
