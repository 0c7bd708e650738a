#include "forward/projection.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "forward/compute_threads.h"
#include "forward/row_products.h"

namespace linchpin {
namespace {

absl::Span<float> FloatsOf(const at::Tensor& tensor) {
  return absl::MakeSpan(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()));
}

// One weight, as stored or as the lens shows it.
class SourceOfRows {
 public:
  static absl::StatusOr<SourceOfRows> Open(const LinearWeights& weights,
                                           const LinearTensors& linear, const RunContext& context) {
    SourceOfRows source(weights.checkpoint);
    ASSIGN_OR_RETURN(source.tensor_, weights.checkpoint.Find(linear.weight.name));
    if (weights.lens == nullptr) return source;
    ASSIGN_OR_RETURN(source.seen_,
                     weights.lens->Look(weights.checkpoint, *source.tensor_, context));
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
  // As ReadStoredRows; `first` a multiple of step().
  absl::StatusOr<StoredRows> Read(int64_t first, int64_t count, at::Tensor& memory) const {
    if (seen_ == nullptr) return ReadStoredRows(checkpoint_, *tensor_, first, count, memory);
    const int64_t elements = count * columns();
    if (!memory.defined() || memory.numel() < elements) memory = at::empty({elements}, at::kFloat);
    RETURN_IF_ERROR(seen_->Read(first, FloatsOf(memory).subspan(0, static_cast<size_t>(elements))));
    return StoredRows{DType::kF32, static_cast<const std::byte*>(memory.data_ptr()), count,
                      columns()};
  }
  // All of it, [rows, columns].
  absl::StatusOr<at::Tensor> ReadAll() const {
    at::Tensor all = at::empty({rows(), columns()}, at::kFloat);
    if (seen_ == nullptr) {
      RETURN_IF_ERROR(checkpoint_.ReadRows(*tensor_, 0, rows(), FloatsOf(all)));
      return all;
    }
    for (int64_t first = 0; first < rows(); first += step()) {
      const at::Tensor part = all.narrow(0, first, std::min(step(), rows() - first));
      RETURN_IF_ERROR(seen_->Read(first, FloatsOf(part)));
    }
    return all;
  }

 private:
  explicit SourceOfRows(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const Checkpoint& checkpoint_;
  const StoredTensor* tensor_ = nullptr;
  std::unique_ptr<const SeenWeight> seen_;
};

}  // namespace

absl::Status CheckTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected) {
  if (expected.name.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  const std::string where = fmt::format(
      "{}: {}", checkpoint.shards()[static_cast<size_t>(tensor->shard)].name, tensor->info.name);
  if (tensor->info.shape != expected.shape) {
    return Error(Reason::kTensorShapeInvalid, where,
                 fmt::format("its shape is {} where config.json demands {}",
                             ShapeText(tensor->info.shape), ShapeText(expected.shape)),
                 "check that config.json belongs to these weights");
  }
  return checkpoint.CheckReadable(*tensor);
}

absl::StatusOr<at::Tensor> LoadTensor(const Checkpoint& checkpoint,
                                      const ExpectedTensor& expected) {
  if (expected.name.empty()) return at::Tensor();
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  at::Tensor out = at::empty(tensor->info.shape, at::kFloat);
  const int64_t rows = out.dim() < 2 ? 1 : out.size(0);
  RETURN_IF_ERROR(checkpoint.ReadRows(*tensor, 0, rows, FloatsOf(out)));
  return out;
}

absl::StatusOr<StoredRows> ReadStoredRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                          int64_t first, int64_t count, at::Tensor& memory) {
  const int64_t columns = tensor.info.shape[1];
  const int64_t elements = count * columns;
  if (!memory.defined() || memory.numel() < elements) memory = at::empty({elements}, at::kFloat);
  StoredRows rows{DType::kF32, static_cast<const std::byte*>(memory.data_ptr()), count, columns};
  if (tensor.encoding || tensor.scales) {
    RETURN_IF_ERROR(checkpoint.ReadRows(
        tensor, first, count, FloatsOf(memory).subspan(0, static_cast<size_t>(elements))));
    return rows;
  }
  rows.dtype = tensor.info.dtype;
  const int64_t row_bytes = columns * SizeOf(rows.dtype);
  RETURN_IF_ERROR(checkpoint.ReadBytes(tensor, static_cast<uint64_t>(first * row_bytes),
                                       absl::MakeSpan(static_cast<std::byte*>(memory.data_ptr()),
                                                      static_cast<size_t>(count * row_bytes))));
  return rows;
}

absl::StatusOr<at::Tensor> Project(const LinearWeights& weights, const LinearTensors& linear,
                                   const at::Tensor& x, const RunContext& context) {
  ComputeOnThisThread();
  ASSIGN_OR_RETURN(const at::Tensor bias, LoadTensor(weights.checkpoint, linear.bias));
  ASSIGN_OR_RETURN(const SourceOfRows source, SourceOfRows::Open(weights, linear, context));
  at::Tensor out;
  if (linear.transposed) {
    // All of them at once, as their rows are what is summed over.
    ASSIGN_OR_RETURN(const at::Tensor weight, source.ReadAll());
    out = at::mm(x.t(), weight).t();
  } else {
    const int64_t rows = source.rows();
    const int64_t step = source.step();
    const at::Tensor input = x.t().contiguous();
    out = at::empty({x.size(1), rows}, at::kFloat).t();
    const auto slabs = static_cast<size_t>((rows + step - 1) / step);
    RETURN_IF_ERROR(ForEachIndex(context.threads, slabs, [&](size_t slab) -> absl::Status {
      RETURN_IF_ERROR(context.Check());
      thread_local at::Tensor memory;
      const int64_t first = static_cast<int64_t>(slab) * step;
      ASSIGN_OR_RETURN(const StoredRows part,
                       source.Read(first, std::min(step, rows - first), memory));
      MultiplyRows(part, input.data_ptr<float>(), x.size(1), out.data_ptr<float>() + first, rows);
      return absl::OkStatus();
    }));
  }
  if (bias.defined()) out.add_(bias.unsqueeze(1));
  return out;
}

absl::StatusOr<at::Tensor> LoadChannel(const LinearWeights& weights, const LinearTensors& linear,
                                       int64_t channel) {
  if (linear.transposed || weights.lens != nullptr) {
    ASSIGN_OR_RETURN(const SourceOfRows source, SourceOfRows::Open(weights, linear, {}));
    ASSIGN_OR_RETURN(const at::Tensor weight, source.ReadAll());
    return weight.select(linear.transposed ? 1 : 0, channel).clone();
  }
  ASSIGN_OR_RETURN(const StoredTensor* weight, weights.checkpoint.Find(linear.weight.name));
  at::Tensor row = at::empty({weight->info.shape[1]}, at::kFloat);
  RETURN_IF_ERROR(weights.checkpoint.ReadRows(*weight, channel, 1, FloatsOf(row)));
  return row;
}

absl::StatusOr<bool> IsFinite(const Checkpoint& checkpoint, const ExpectedTensor& expected) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  const bool is_matrix = tensor->info.shape.size() > 1;
  const int64_t rows = is_matrix ? tensor->info.shape[0] : 1;
  const int64_t step = is_matrix ? RowsTogether(tensor->info.shape[1]) : 1;
  for (int64_t first = 0; first < rows; first += step) {
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(*tensor, first, std::min(step, rows - first)));
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(slab.data.begin(), slab.data.end(), finite)) return false;
  }
  return true;
}

}  // namespace linchpin
