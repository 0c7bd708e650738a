#include "artifact/tensor_writer.h"

#include <algorithm>
#include <cmath>

#include "artifact/digest.h"
#include "base/status.h"
#include "fmt/format.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int64_t kSlabBytes = int64_t{4} << 20;

TensorAction ActionOf(const PlanRow& row) {
  if (row.quantized) return TensorAction::kQuantized;
  return row.kept_because == "super weight" ? TensorAction::kPreserved : TensorAction::kCopied;
}

// NOT_FINITE for element `index`, counted over the whole tensor.
absl::Status NotFinite(const Checkpoint& checkpoint, const StoredTensor& tensor, int64_t index) {
  const std::vector<int64_t>& shape = tensor.info.shape;
  const int64_t columns = shape.empty() ? 1 : std::max<int64_t>(shape.back(), 1);
  const std::string where = shape.size() < 2
                                ? fmt::format("[{}]", index)
                                : fmt::format("[{}, {}]", index / columns, index % columns);
  const int64_t size = SizeOf(tensor.info.dtype);
  std::byte bytes[8];
  float value = 0;
  RETURN_IF_ERROR(checkpoint.ReadBytes(tensor, index * size, {bytes, static_cast<size_t>(size)}));
  WidenToFloat(tensor.info.dtype, bytes, 1, &value);
  return Error(
      Reason::kNotFinite,
      fmt::format("{}, tensor {}", checkpoint.shards()[tensor.shard].name, tensor.info.name),
      fmt::format("the weight at {} is {}", where, std::isnan(value) ? "NaN" : "infinite"),
      "repair the checkpoint, no compression can");
}

class Encoding {
 public:
  Encoding(const Checkpoint& checkpoint, const PlanRow& row, ScaleRule rule,
           const std::vector<TensorSlot>& slots)
      : checkpoint_(checkpoint),
        row_(row),
        rule_(rule),
        packed_slot_(slots[0]),
        scale_slot_(slots[1]),
        shape_slot_(slots[2]) {}

  absl::Status Run(const RunContext& context, ProgressMeter& meter) {
    const int64_t row_bytes = Columns() * SizeOf(Dtype());
    const int64_t slab = std::clamp<int64_t>(kSlabBytes / row_bytes, 1, Rows());
    weights_.resize(slab * row_bytes);
    packed_.resize(slab * PackedRowBytes());
    scales_.resize(Rows() * ScaleRowBytes());
    for (int64_t first = 0; first < Rows(); first += slab) {
      RETURN_IF_ERROR(context.Check());
      const int64_t count = std::min(slab, Rows() - first);
      RETURN_IF_ERROR(EncodeSlab(first, count));
      meter.Add(row_.source.info.name, count * row_bytes);
    }
    const int64_t shape[2] = {Rows(), Columns()};
    const absl::Span<const std::byte> shape_bytes(reinterpret_cast<const std::byte*>(shape), 16);
    RETURN_IF_ERROR(shape_slot_.Write(0, shape_bytes));
    // In the digest the scales follow all codes.  They are kept for that, a few
    // MiB even of the largest layers: not every store can read back what it is
    // still being sent.
    RETURN_IF_ERROR(scale_slot_.Write(0, scales_));
    digest_.Update(scales_);
    digest_.Update(shape_bytes);
    return absl::OkStatus();
  }

  void Fill(TensorRecord& record) {
    record.max_error = error_.max_abs;
    record.rms_error = std::sqrt(error_.sum_squares /
                                 (static_cast<double>(Rows()) * static_cast<double>(Columns())));
    record.sha256 = digest_.Hex();
  }

 private:
  int64_t Rows() const { return row_.source.info.shape[0]; }
  int64_t Columns() const { return row_.source.info.shape[1]; }
  DType Dtype() const { return row_.source.info.dtype; }
  int64_t PackedRowBytes() const { return Columns() / 2; }
  int64_t ScaleRowBytes() const { return Columns() / row_.group_size * SizeOf(Dtype()); }

  absl::Status EncodeSlab(int64_t first, int64_t count) {
    const int64_t row_bytes = Columns() * SizeOf(Dtype());
    const absl::Span<std::byte> weights(weights_.data(), count * row_bytes);
    RETURN_IF_ERROR(checkpoint_.ReadBytes(row_.source, first * row_bytes, weights));
    const std::vector<PinnedElement> pinned = PinnedIn(first, count);
    const EncodeError error = EncodeGroups({.dtype = Dtype(),
                                            .rows = count,
                                            .columns = Columns(),
                                            .group_size = row_.group_size,
                                            .rule = rule_,
                                            .pinned = pinned,
                                            .weights = weights_.data(),
                                            .packed = packed_.data(),
                                            .scales = scales_.data() + first * ScaleRowBytes()});
    error_.Add(error, first * Columns());
    if (error_.first_non_finite >= 0) {
      return NotFinite(checkpoint_, row_.source, error_.first_non_finite);
    }
    const absl::Span<const std::byte> packed(packed_.data(), count * PackedRowBytes());
    digest_.Update(packed);
    return packed_slot_.Write(first * PackedRowBytes(), packed);
  }

  std::vector<PinnedElement> PinnedIn(int64_t first, int64_t count) const {
    std::vector<PinnedElement> pinned;
    for (const PinnedWeight& weight : row_.pinned) {
      const int64_t row = weight.position.row - first;
      if (row >= 0 && row < count) pinned.push_back({row, weight.position.column});
    }
    return pinned;
  }

  const Checkpoint& checkpoint_;
  const PlanRow& row_;
  const ScaleRule rule_;
  const TensorSlot packed_slot_;
  const TensorSlot scale_slot_;
  const TensorSlot shape_slot_;
  std::vector<std::byte> weights_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> scales_;  // of the whole tensor
  EncodeError error_;
  Sha256 digest_;
};

// Weights and biases must be finite; what else a file holds (masks, tables) may be anything.
bool MustBeFinite(const TensorInfo& info) {
  return IsFloatWeight(info.dtype) &&
         (info.name.ends_with(".weight") || info.name.ends_with(".bias"));
}

absl::Status CopyTensor(const Checkpoint& checkpoint, const PlanRow& row, const TensorSlot& slot,
                        const RunContext& context, ProgressMeter& meter, Sha256& digest) {
  const TensorInfo& info = row.source.info;
  const int64_t total = static_cast<int64_t>(slot.size);
  std::vector<std::byte> slab(std::min(total, kSlabBytes));
  for (int64_t done = 0; done < total; done += kSlabBytes) {
    RETURN_IF_ERROR(context.Check());
    const absl::Span<std::byte> bytes(slab.data(), std::min(kSlabBytes, total - done));
    RETURN_IF_ERROR(checkpoint.ReadBytes(row.source, done, bytes));
    if (MustBeFinite(info)) {
      const int64_t size = SizeOf(info.dtype);
      const int64_t bad =
          FirstNonFinite(info.dtype, bytes.data(), static_cast<int64_t>(bytes.size()) / size);
      if (bad >= 0) return NotFinite(checkpoint, row.source, done / size + bad);
    }
    digest.Update(bytes);
    RETURN_IF_ERROR(slot.Write(done, bytes));
    meter.Add(info.name, bytes.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TensorRecord> WriteTensor(const Checkpoint& checkpoint, const PlanRow& row,
                                         ScaleRule rule, const std::vector<TensorSlot>& slots,
                                         const RunContext& context, ProgressMeter& meter) {
  TensorRecord record;
  record.name = row.source.info.name;
  record.action = std::string(TensorActionName(ActionOf(row)));
  record.bytes_in = row.bytes_in();
  record.bytes_out = row.bytes_out();
  if (row.quantized) {
    Encoding encoding(checkpoint, row, rule, slots);
    RETURN_IF_ERROR(encoding.Run(context, meter));
    encoding.Fill(record);
  } else {
    Sha256 digest;
    RETURN_IF_ERROR(CopyTensor(checkpoint, row, slots[0], context, meter, digest));
    record.sha256 = digest.Hex();
  }
  meter.CountTensor(ActionOf(row));
  return record;
}

}  // namespace linchpin
