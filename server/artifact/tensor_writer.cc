#include "artifact/tensor_writer.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "artifact/digest.h"
#include "base/status.h"
#include "fmt/format.h"
#include "quantize/slab_encoder.h"
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

// Encodes one tensor slab by slab and writes what comes out.
class Encoding {
 public:
  Encoding(const Checkpoint& checkpoint, const PlanRow& row, const Importance* importance,
           const std::vector<TensorSlot>& slots)
      : checkpoint_(checkpoint),
        row_(row),
        slots_(slots),
        encoder_(MakeEncoder(row, importance)),
        beside_(encoder_->Constants()) {}

  absl::Status Run(const RunContext& context, ProgressMeter& meter) {
    const int64_t row_bytes = Columns() * SizeOf(row_.source.info.dtype);
    const int64_t slab = std::max(kSlabBytes / row_bytes / kSlabRows, int64_t{1}) * kSlabRows;
    for (int64_t first = 0; first < Rows(); first += slab) {
      RETURN_IF_ERROR(context.Check());
      const int64_t count = std::min(slab, Rows() - first);
      RETURN_IF_ERROR(EncodeSlab(first, count));
      meter.Add(row_.source.info.name, count * row_bytes);
    }
    // In the digest what goes with the codes follows all of them.  It is kept for
    // that, a few MiB even of the largest layers: not every store can read back
    // what it is still being sent.
    for (size_t i = 1; i < slots_.size(); ++i) {
      RETURN_IF_ERROR(slots_[i].Write(0, beside_[i]));
      digest_.Update(beside_[i]);
    }
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

  absl::Status EncodeSlab(int64_t first, int64_t count) {
    const int64_t row_bytes = Columns() * SizeOf(row_.source.info.dtype);
    weights_.resize(static_cast<size_t>(count * row_bytes));
    RETURN_IF_ERROR(
        checkpoint_.ReadBytes(row_.source, first * row_bytes, absl::MakeSpan(weights_)));
    const EncodeError error = encoder_->Encode(first, count, weights_.data(), bytes_);
    error_.Add(error, first * Columns());
    if (error_.first_non_finite >= 0) {
      return NotFinite(checkpoint_, row_.source, error_.first_non_finite);
    }
    digest_.Update(bytes_[0]);
    for (size_t i = 1; i < slots_.size(); ++i) {
      beside_[i].insert(beside_[i].end(), bytes_[i].begin(), bytes_[i].end());
    }
    const uint64_t begin = slots_[0].size / static_cast<uint64_t>(Rows()) * first;
    return slots_[0].Write(begin, bytes_[0]);
  }

  const Checkpoint& checkpoint_;
  const PlanRow& row_;
  const std::vector<TensorSlot>& slots_;
  const std::unique_ptr<SlabEncoder> encoder_;
  std::vector<std::byte> weights_;
  std::vector<std::vector<std::byte>> bytes_;   // of a slab, by output
  std::vector<std::vector<std::byte>> beside_;  // of the whole tensor, by output but the first
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
                                         const Importance* importance,
                                         const std::vector<TensorSlot>& slots,
                                         const RunContext& context, ProgressMeter& meter) {
  TensorRecord record;
  record.name = row.source.info.name;
  record.action = std::string(TensorActionName(ActionOf(row)));
  record.bytes_in = row.bytes_in();
  record.bytes_out = row.bytes_out();
  if (row.quantized) {
    Encoding encoding(checkpoint, row, importance, slots);
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
