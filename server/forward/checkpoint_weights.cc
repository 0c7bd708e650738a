#include "forward/checkpoint_weights.h"

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

#include "base/parallel.h"
#include "base/status.h"
#include "forward/row_products.h"
#include "hwy/aligned_allocator.h"

namespace linchpin {
namespace {

absl::StatusOr<StoredRows> ReadStoredRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                          int64_t first, int64_t count, absl::Span<float> memory) {
  const int64_t columns = tensor.info.shape[1];
  StoredRows rows{DType::kF32, reinterpret_cast<const std::byte*>(memory.data()), count, columns};
  if (tensor.encoding || tensor.scales) {
    const auto elements = static_cast<size_t>(count * columns);
    RETURN_IF_ERROR(checkpoint.ReadRows(tensor, first, count, memory.subspan(0, elements)));
    return rows;
  }
  rows.dtype = tensor.info.dtype;
  const int64_t row_bytes = columns * SizeOf(rows.dtype);
  RETURN_IF_ERROR(checkpoint.ReadBytes(tensor, static_cast<uint64_t>(first * row_bytes),
                                       absl::MakeSpan(reinterpret_cast<std::byte*>(memory.data()),
                                                      static_cast<size_t>(count * row_bytes))));
  return rows;
}

// One weight, as stored or as the lens shows it.
class SourceOfRows {
 public:
  static absl::StatusOr<SourceOfRows> Open(const Checkpoint& checkpoint, const LinearLens* lens,
                                           const LinearTensors& linear, const RunContext& context) {
    SourceOfRows source(checkpoint);
    ASSIGN_OR_RETURN(source.tensor_, checkpoint.Find(linear.weight.name));
    if (lens == nullptr) return source;
    ASSIGN_OR_RETURN(source.seen_, lens->Look(checkpoint, *source.tensor_, context));
    return source;
  }

  int64_t rows() const { return tensor_->info.shape[0]; }
  int64_t columns() const { return tensor_->info.shape[1]; }
  // Rows to be read at once.
  int64_t step() const {
    const int64_t together = RowsTogether(columns());
    if (seen_ == nullptr) return together;
    return std::max<int64_t>(1, together / SeenWeight::kRows) * SeenWeight::kRows;
  }
  // As WeightReader::ReadRows, through the lens; `first` a multiple of step().
  absl::StatusOr<StoredRows> Read(int64_t first, int64_t count, absl::Span<float> memory) const {
    if (seen_ == nullptr) return ReadStoredRows(checkpoint_, *tensor_, first, count, memory);
    RETURN_IF_ERROR(seen_->Read(first, memory.subspan(0, static_cast<size_t>(count * columns()))));
    return StoredRows{DType::kF32, reinterpret_cast<const std::byte*>(memory.data()), count,
                      columns()};
  }
  // All of it, [rows, columns].
  absl::Status ReadAll(absl::Span<float> all) const {
    if (seen_ == nullptr) return checkpoint_.ReadRows(*tensor_, 0, rows(), all);
    for (int64_t first = 0; first < rows(); first += step()) {
      const auto begin = static_cast<size_t>(first * columns());
      const auto count = static_cast<size_t>(std::min(step(), rows() - first) * columns());
      RETURN_IF_ERROR(seen_->Read(first, all.subspan(begin, count)));
    }
    return absl::OkStatus();
  }

 private:
  explicit SourceOfRows(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const Checkpoint& checkpoint_;
  const StoredTensor* tensor_ = nullptr;
  std::unique_ptr<const SeenWeight> seen_;
};

// What a thread reads into, kept from one slab to the next; `elements` of it.
absl::Span<float> SlabMemory(int64_t elements) {
  thread_local hwy::AlignedFreeUniquePtr<float[]> memory;
  thread_local size_t size = 0;
  const auto wanted = static_cast<size_t>(elements);
  if (size < wanted) {
    memory = hwy::AllocateAligned<float>(wanted);
    size = memory == nullptr ? 0 : wanted;
    if (size == 0) throw std::bad_alloc();
  }
  return {memory.get(), wanted};
}

class CheckpointWeights : public WeightReader {
 public:
  CheckpointWeights(const Checkpoint& checkpoint, const LinearLens* lens)
      : checkpoint_(checkpoint), lens_(lens) {}

  const LinearLens* lens() const override { return lens_; }

  absl::Status ReadTensor(const ExpectedTensor& expected, absl::Span<float> out) const override {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint_.Find(expected.name));
    const std::vector<int64_t>& shape = tensor->info.shape;
    return checkpoint_.ReadRows(*tensor, 0, shape.size() < 2 ? 1 : shape[0], out);
  }

  absl::Status ReadWeight(const LinearTensors& linear, const RunContext& context,
                          absl::Span<float> out) const override {
    ASSIGN_OR_RETURN(const SourceOfRows source, Open(linear, context));
    return source.ReadAll(out);
  }

  absl::Status ReadChannel(const LinearTensors& linear, int64_t channel,
                           absl::Span<float> out) const override {
    if (!linear.transposed && lens_ == nullptr) {
      ASSIGN_OR_RETURN(const StoredTensor* weight, checkpoint_.Find(linear.weight.name));
      return checkpoint_.ReadRows(*weight, channel, 1, out);
    }
    ASSIGN_OR_RETURN(const SourceOfRows source, Open(linear, {}));
    std::vector<float> all(static_cast<size_t>(source.rows() * source.columns()));
    RETURN_IF_ERROR(source.ReadAll(absl::MakeSpan(all)));
    const auto count = static_cast<int64_t>(out.size());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at =
          linear.transposed ? i * source.columns() + channel : channel * source.columns() + i;
      out[static_cast<size_t>(i)] = all[static_cast<size_t>(at)];
    }
    return absl::OkStatus();
  }

  absl::Status Multiply(const LinearTensors& linear, MatrixView x, float* out,
                        const RunContext& context) const override {
    ASSIGN_OR_RETURN(const SourceOfRows source, Open(linear, context));
    const int64_t rows = source.rows();
    const int64_t step = source.step();
    const auto slabs = static_cast<size_t>((rows + step - 1) / step);
    return ForEachIndex(context.threads, slabs, [&](size_t slab) -> absl::Status {
      RETURN_IF_ERROR(context.Check());
      const int64_t first = static_cast<int64_t>(slab) * step;
      const int64_t count = std::min(step, rows - first);
      ASSIGN_OR_RETURN(const StoredRows part,
                       source.Read(first, count, SlabMemory(count * source.columns())));
      linchpin::MultiplyRows(part, x.data, x.rows, out + first, rows);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<StoredRows> ReadRows(const ExpectedTensor& matrix, int64_t first, int64_t count,
                                      absl::Span<float> memory) const override {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint_.Find(matrix.name));
    return ReadStoredRows(checkpoint_, *tensor, first, count, memory);
  }

  void MultiplyRows(const StoredRows& rows, const float* x, int64_t tokens, float* out,
                    int64_t stride) const override {
    linchpin::MultiplyRows(rows, x, tokens, out, stride);
  }

 private:
  absl::StatusOr<SourceOfRows> Open(const LinearTensors& linear, const RunContext& context) const {
    return SourceOfRows::Open(checkpoint_, lens_, linear, context);
  }

  const Checkpoint& checkpoint_;
  const LinearLens* lens_;
};

}  // namespace

std::shared_ptr<const WeightReader> ReaderOf(const Checkpoint& checkpoint, const LinearLens* lens) {
  return std::make_shared<const CheckpointWeights>(checkpoint, lens);
}

}  // namespace linchpin
