#include "artifact/tensor_writer.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "artifact/digest.h"
#include "base/status.h"
#include "checkpoint/gguf_template.h"
#include "fmt/format.h"
#include "quantize/classification.h"
#include "quantize/equalization.h"
#include "quantize/slab_encoder.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

int64_t RowsOf(const TensorInfo& info) { return info.shape.size() < 2 ? 1 : info.shape[0]; }
int64_t ColumnsOf(const TensorInfo& info) {
  const int64_t rows = RowsOf(info);
  return rows == 0 ? 0 : ElementCount(info.shape).value_or(0) / rows;
}

// NOT_FINITE for element `index`, counted over the whole tensor.
absl::Status NotFinite(const Checkpoint& checkpoint, const StoredTensor& tensor, int64_t index) {
  const int64_t columns = std::max<int64_t>(ColumnsOf(tensor.info), 1);
  const std::string where = tensor.info.shape.size() < 2
                                ? fmt::format("[{}]", index)
                                : fmt::format("[{}, {}]", index / columns, index % columns);
  ASSIGN_OR_RETURN(const Matrix row, checkpoint.ReadRows(tensor, index / columns, 1));
  return Error(
      Reason::kNotFinite,
      fmt::format("{}, tensor {}", checkpoint.shards()[tensor.shard].name, tensor.info.name),
      fmt::format("the weight at {} is {}", where,
                  std::isnan(row.View().At(0, index % columns)) ? "NaN" : "infinite"),
      "repair the checkpoint, or keep the tensor as it is with --ignore");
}

// Writes a kept tensor that is not stored in the output's dtype, or is scaled.
class Narrowing : public SlabEncoder {
 public:
  explicit Narrowing(const PlanRow& row) : row_(row) {}

  EncodeError Encode(int64_t /*first*/, int64_t count, const std::byte* weights,
                     std::vector<std::vector<std::byte>>& bytes) const override {
    const int64_t elements = count * ColumnsOf(row_.source.info);
    EncodeError error;
    error.first_non_finite = FirstNonFinite(row_.read_dtype(), weights, elements);
    bytes.resize(1);
    bytes[0].resize(static_cast<size_t>(elements * SizeOf(row_.dtype)));
    std::vector<float> values(static_cast<size_t>(elements));
    WidenToFloat(row_.read_dtype(), weights, elements, values.data());
    NarrowFromFloat(row_.dtype, values.data(), elements, bytes[0].data());
    return error;
  }
  std::vector<std::vector<std::byte>> Constants() const override {
    return std::vector<std::vector<std::byte>>(1);
  }

 private:
  const PlanRow& row_;
};

// Encodes one tensor slab by slab and writes what comes out.
class Encoding {
 public:
  Encoding(const Checkpoint& checkpoint, const PlanRow& row, const std::vector<TensorSlot>& slots,
           std::unique_ptr<SlabEncoder> encoder, const Importance* importance)
      : checkpoint_(checkpoint),
        row_(row),
        slots_(slots),
        factors_(FactorsOf(row, importance)),
        encoder_(std::move(encoder)),
        beside_(encoder_->Constants()) {
    for (const std::vector<std::byte>& bytes : beside_) constant_.push_back(!bytes.empty());
  }

  absl::Status Run(const RunContext& context, ProgressMeter& meter) {
    for (int pass = 0; pass < encoder_->passes(); ++pass) {
      RETURN_IF_ERROR(ForEachSlab(context, [this, pass](int64_t first, int64_t count) {
        return ForEachBlock(count, [&](int64_t at, int64_t rows) {
          encoder_->Measure(pass, first + at, rows, RowAt(at));
          return absl::OkStatus();
        });
      }));
    }
    RETURN_IF_ERROR(ForEachSlab(context, [this, &meter](int64_t first, int64_t count) {
      RETURN_IF_ERROR(EncodeSlab(first, count));
      meter.Add(row_.source.info.name,
                row_.bytes_in() * static_cast<uint64_t>(count) / static_cast<uint64_t>(Rows()));
      return absl::OkStatus();
    }));
    // In the digest what goes with the codes follows all of them.  It is kept for
    // that, a few MiB even of the largest layers: not every store can read back
    // what it is still being sent.
    for (size_t i = 1; i < slots_.size(); ++i) {
      if (!constant_[i]) RETURN_IF_ERROR(slots_[i].Write(0, beside_[i]));
      digest_.Update(beside_[i]);
    }
    return absl::OkStatus();
  }

  void Fill(TensorRecord& record) {
    record.max_error = error_.max_abs;
    const double elements = static_cast<double>(Rows()) * static_cast<double>(Columns());
    record.rms_error = elements == 0 ? 0 : std::sqrt(error_.sum_squares / elements);
    record.sha256 = digest_.Hex();
  }

 private:
  int64_t Rows() const { return RowsOf(row_.source.info); }
  int64_t Columns() const { return ColumnsOf(row_.source.info); }

  // `visit` finds the rows in weights_.
  template <typename Visit>
  absl::Status ForEachSlab(const RunContext& context, Visit visit) {
    const int64_t row_bytes = std::max<int64_t>(Columns() * SizeOf(row_.read_dtype()), 1);
    const int64_t slab =
        std::max(context.slab_bytes / row_bytes / kSlabRows, int64_t{1}) * kSlabRows;
    for (int64_t first = 0; first < Rows(); first += slab) {
      RETURN_IF_ERROR(context.Check());
      const int64_t count = std::min(slab, Rows() - first);
      RETURN_IF_ERROR(ReadSlab(first, count));
      if (!factors_.empty()) ScaleColumns(row_.read_dtype(), factors_, count, weights_.data());
      RETURN_IF_ERROR(visit(first, count));
    }
    return absl::OkStatus();
  }

  absl::Status ReadSlab(int64_t first, int64_t count) {
    const int64_t row_bytes = Columns() * SizeOf(row_.read_dtype());
    const StoredTensor& source = row_.source;
    const bool reordered = row_.gguf && (row_.gguf->heads > 0 || row_.gguf->added != 0);
    weights_.resize(static_cast<size_t>(count * row_bytes));
    if (row_.read_dtype() == source.info.dtype && !source.encoding && !reordered) {
      return checkpoint_.ReadBytes(source, first * row_bytes, absl::MakeSpan(weights_));
    }
    std::vector<float> values(static_cast<size_t>(count * Columns()));
    RETURN_IF_ERROR(ReadRowsForGguf(checkpoint_, source, row_.gguf.value_or(RowEncoding{}), first,
                                    count, absl::MakeSpan(values)));
    NarrowFromFloat(row_.read_dtype(), values.data(), static_cast<int64_t>(values.size()),
                    weights_.data());
    return absl::OkStatus();
  }

  // Of the rows in weights_.
  void ZeroHeldOut(int64_t first, int64_t count) {
    if (TraitsOf(row_.scheme).codes == CodeKind::kNone) return;  // it looks for itself
    const int64_t size = SizeOf(row_.read_dtype());
    for (const PinnedElement& element : ElementsIn(row_.held_out, first, count)) {
      StoreAs(row_.read_dtype(), 0,
              weights_.data() + (element.row * Columns() + element.column) * size);
    }
  }

  // In blocks of rows, the same however large the slabs are: sums of errors depend
  // on what is added first.
  template <typename Visit>
  static absl::Status ForEachBlock(int64_t count, Visit visit) {
    for (int64_t at = 0; at < count; at += kSlabRows) {
      RETURN_IF_ERROR(visit(at, std::min(kSlabRows, count - at)));
    }
    return absl::OkStatus();
  }

  // Of the rows in weights_.
  const std::byte* RowAt(int64_t row) const {
    return weights_.data() + row * Columns() * SizeOf(row_.read_dtype());
  }

  absl::Status EncodeSlab(int64_t first, int64_t count) {
    ZeroHeldOut(first, count);
    codes_.clear();
    RETURN_IF_ERROR(ForEachBlock(
        count, [&](int64_t at, int64_t rows) { return EncodeBlock(first + at, rows, RowAt(at)); }));
    digest_.Update(codes_);
    const uint64_t begin = slots_[0].size / static_cast<uint64_t>(Rows()) * first;
    return slots_[0].Write(begin, codes_);
  }

  absl::Status EncodeBlock(int64_t first, int64_t count, const std::byte* weights) {
    const EncodeError error = encoder_->Encode(first, count, weights, bytes_);
    error_.Add(error, first * Columns());
    if (error_.first_non_finite >= 0) {
      return NotFinite(checkpoint_, row_.source, error_.first_non_finite);
    }
    codes_.insert(codes_.end(), bytes_[0].begin(), bytes_[0].end());
    for (size_t i = 1; i < slots_.size(); ++i) {
      beside_[i].insert(beside_[i].end(), bytes_[i].begin(), bytes_[i].end());
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const PlanRow& row_;
  const std::vector<TensorSlot>& slots_;
  const std::vector<float> factors_;  // of the columns; empty: none
  const std::unique_ptr<SlabEncoder> encoder_;
  std::vector<std::byte> weights_;
  std::vector<std::vector<std::byte>> bytes_;   // of a block, by output
  std::vector<std::byte> codes_;                // of a slab, for the first output
  std::vector<std::vector<std::byte>> beside_;  // of the whole tensor, by output but the first
  std::vector<bool> constant_;                  // by output: WriteConstants wrote it
  EncodeError error_;
  Sha256 digest_;
};

// Null where the bytes go over as they are.
std::unique_ptr<SlabEncoder> EncoderOf(const QuantizeOptions& options, const PlanRow& row,
                                       const Importance* importance) {
  const StoredTensor& source = row.source;
  if (row.quantized) return MakeEncoder(options, row, importance);
  if (!row.gguf) {
    if (!source.encoding && !source.scales && row.equalized == Equalized::kNo) return nullptr;
    return std::make_unique<Narrowing>(row);
  }
  const bool same_type = source.encoding ? source.encoding->type == row.gguf->type
                                         : source.info.dtype == row.gguf->type->dtype;
  const bool as_stored = row.gguf->heads == 0 && row.gguf->added == 0;
  if (same_type && as_stored && row.equalized == Equalized::kNo) return nullptr;
  return MakeEncoder(options, row, importance);
}

// Weights and biases must be finite, but for those that were asked to stay; what else a
// file holds (masks, tables) may be anything.
bool MustBeFinite(const TensorInfo& info, const QuantizeOptions& options) {
  return IsFloatWeight(info.dtype) && !MatchesAny(options.ignore, info.name) &&
         (info.name.ends_with(".weight") || info.name.ends_with(".bias"));
}

constexpr int64_t kAlignment = 4096;  // of what is copied at a time

absl::Status CopyTensor(const Checkpoint& checkpoint, const QuantizeOptions& options,
                        const PlanRow& row, const TensorSlot& slot, const RunContext& context,
                        ProgressMeter& meter, Sha256& digest) {
  const TensorInfo& info = row.source.info;
  const int64_t total = static_cast<int64_t>(slot.size);
  const int64_t slab_bytes = std::max<int64_t>(context.slab_bytes / kAlignment, 1) * kAlignment;
  std::vector<std::byte> slab(std::min(total, slab_bytes));
  for (int64_t done = 0; done < total; done += slab_bytes) {
    RETURN_IF_ERROR(context.Check());
    const absl::Span<std::byte> bytes(slab.data(), std::min(slab_bytes, total - done));
    RETURN_IF_ERROR(checkpoint.ReadStoredBytes(row.source, done, bytes));
    if (MustBeFinite(info, options) && !row.source.encoding) {
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

TensorAction ActionOf(const PlanRow& row) {
  if (row.quantized) return TensorAction::kQuantized;
  if (row.equalized != Equalized::kNo) return TensorAction::kEqualized;
  return row.kept_because == "super weight" ? TensorAction::kPreserved : TensorAction::kCopied;
}

TensorRecord BeginRecord(const PlanRow& row) {
  TensorRecord record;
  record.name = row.source.info.name;
  record.action = std::string(TensorActionName(ActionOf(row)));
  record.bytes_in = row.bytes_in();
  record.bytes_out = row.bytes_out();
  return record;
}

absl::StatusOr<std::vector<TensorSlot>> WriteConstants(const QuantizeOptions& options,
                                                       const PlanRow& row,
                                                       const std::vector<TensorSlot>& slots) {
  const auto encoder = EncoderOf(options, row, nullptr);
  if (encoder == nullptr) return slots;
  const std::vector<std::vector<std::byte>> constants = encoder->Constants();
  std::vector<TensorSlot> left;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (constants[i].empty()) {
      left.push_back(slots[i]);
    } else {
      RETURN_IF_ERROR(slots[i].Write(0, constants[i]));
    }
  }
  return left;
}

absl::StatusOr<TensorRecord> WriteTensor(const Checkpoint& checkpoint,
                                         const QuantizeOptions& options, const PlanRow& row,
                                         const Importance* importance,
                                         const std::vector<TensorSlot>& slots,
                                         const RunContext& context, ProgressMeter& meter) {
  TensorRecord record = BeginRecord(row);
  if (auto encoder = EncoderOf(options, row, importance)) {
    Encoding encoding(checkpoint, row, slots, std::move(encoder), importance);
    RETURN_IF_ERROR(encoding.Run(context, meter));
    encoding.Fill(record);
  } else {
    Sha256 digest;
    RETURN_IF_ERROR(CopyTensor(checkpoint, options, row, slots[0], context, meter, digest));
    record.sha256 = digest.Hex();
  }
  meter.CountTensor(ActionOf(row));
  return record;
}

}  // namespace linchpin
