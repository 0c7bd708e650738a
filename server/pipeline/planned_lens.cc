#include "pipeline/planned_lens.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "quantize/slab_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

static_assert(SeenWeight::kRows % kSlabRows == 0);

constexpr int64_t kSlabElements = 1 << 18;  // of what is measured at once

// One tensor through the encoder of its row.
class RoundedWeight : public SeenWeight {
 public:
  RoundedWeight(const Checkpoint& checkpoint, const QuantizeOptions& options, const PlanRow& row,
                const ChannelScale* scale)
      : checkpoint_(checkpoint),
        row_(row),
        scale_(scale),
        encoder_(MakeEncoder(options, row, /*importance=*/nullptr)) {}

  // Before the first Read.
  absl::Status Measure(const RunContext& context) {
    for (int pass = 0; pass < encoder_->passes(); ++pass) {
      RETURN_IF_ERROR(MeasurePass(pass, context));
    }
    return absl::OkStatus();
  }

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    const auto count = static_cast<int64_t>(out.size()) / columns();
    ASSIGN_OR_RETURN(const std::vector<std::byte> weights, Stored(first, count));
    std::vector<std::vector<std::byte>> bytes;
    const EncodeError error = encoder_->Encode(first, count, weights.data(), bytes);
    if (error.first_non_finite >= 0) {
      const int64_t at = error.first_non_finite;
      return Error(Reason::kNotFinite,
                   fmt::format("tensor {}[{}, {}]", row_.source.info.name, first + at / columns(),
                               at % columns()),
                   "it is NaN or infinite", "repair the checkpoint");
    }
    WidenToFloat(row_.dtype, bytes.front().data(), static_cast<int64_t>(out.size()), out.data());
    return absl::OkStatus();
  }

 private:
  absl::Status MeasurePass(int pass, const RunContext& context) {
    const int64_t together =
        std::max<int64_t>(1, kSlabElements / columns() / kSlabRows) * kSlabRows;
    for (int64_t first = 0; first < rows(); first += together) {
      RETURN_IF_ERROR(context.Check());
      const int64_t count = std::min(together, rows() - first);
      ASSIGN_OR_RETURN(const std::vector<std::byte> weights, Stored(first, count));
      encoder_->Measure(pass, first, count, weights.data());
    }
    return absl::OkStatus();
  }

  int64_t rows() const { return row_.source.info.shape[0]; }
  int64_t columns() const { return row_.source.info.shape[1]; }

  // Rows in the dtype that the encoder reads.
  absl::StatusOr<std::vector<std::byte>> Stored(int64_t first, int64_t count) const {
    const DType dtype = row_.read_dtype();
    const int64_t row_bytes = columns() * SizeOf(dtype);
    std::vector<std::byte> bytes(static_cast<size_t>(count * row_bytes));
    if (dtype != DType::kF32) {
      RETURN_IF_ERROR(checkpoint_.ReadBytes(row_.source, static_cast<uint64_t>(first * row_bytes),
                                            absl::MakeSpan(bytes)));
      return bytes;
    }
    // The row may be read in another dtype than its tensor is stored in.
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint_.Find(row_.source.info.name));
    const absl::Span<float> values(reinterpret_cast<float*>(bytes.data()),
                                   static_cast<size_t>(count * columns()));
    RETURN_IF_ERROR(checkpoint_.ReadRows(*tensor, first, count, values));
    for (size_t i = 0; i < values.size() && scale_ != nullptr; ++i) {
      values[i] *= (*scale_)[i % scale_->size()];
    }
    return bytes;
  }

  const Checkpoint& checkpoint_;
  const PlanRow& row_;
  const ChannelScale* const scale_;
  const std::unique_ptr<SlabEncoder> encoder_;
};

}  // namespace

PlannedLens::PlannedLens(Plan plan, ChannelScales scales)
    : plan_(std::move(plan)), scales_(std::move(scales)) {
  for (const PlanRow& row : plan_.rows) {
    if (row.quantized) rows_.emplace(row.source.info.name, &row);
  }
}

const PlanRow* PlannedLens::QuantizedRow(std::string_view weight) const {
  const auto found = rows_.find(weight);
  return found == rows_.end() ? nullptr : found->second;
}

const ChannelScale* PlannedLens::ScaleOf(std::string_view weight) const {
  const auto found = scales_.find(weight);
  return found == scales_.end() ? nullptr : found->second.get();
}

absl::StatusOr<std::unique_ptr<const SeenWeight>> PlannedLens::Look(
    const Checkpoint& checkpoint, const StoredTensor& weight, const RunContext& context) const {
  const PlanRow* row = QuantizedRow(weight.info.name);
  if (row == nullptr) return nullptr;
  auto seen =
      std::make_unique<RoundedWeight>(checkpoint, plan_.options, *row, ScaleOf(weight.info.name));
  RETURN_IF_ERROR(seen->Measure(context));
  return seen;
}

}  // namespace linchpin
