#include "forward/projection.h"

#include <algorithm>
#include <cmath>
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

// [in, out] weights: all of them at once, as their rows are what is summed over.
absl::StatusOr<at::Tensor> ProjectTransposed(const Checkpoint& checkpoint,
                                             const LinearTensors& linear, const at::Tensor& x) {
  ASSIGN_OR_RETURN(const at::Tensor weight, LoadTensor(checkpoint, linear.weight));
  return at::mm(x.t(), weight).t();
}

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

absl::StatusOr<at::Tensor> Project(const Checkpoint& checkpoint, const LinearTensors& linear,
                                   const at::Tensor& x, const RunContext& context) {
  ComputeOnThisThread();
  ASSIGN_OR_RETURN(const at::Tensor bias, LoadTensor(checkpoint, linear.bias));
  at::Tensor out;
  if (linear.transposed) {
    ASSIGN_OR_RETURN(out, ProjectTransposed(checkpoint, linear, x));
  } else {
    ASSIGN_OR_RETURN(const StoredTensor* weight, checkpoint.Find(linear.weight.name));
    const int64_t rows = weight->info.shape[0];
    const int64_t step = RowsTogether(weight->info.shape[1]);
    const at::Tensor input = x.t().contiguous();
    out = at::empty({x.size(1), rows}, at::kFloat).t();
    const auto slabs = static_cast<size_t>((rows + step - 1) / step);
    RETURN_IF_ERROR(ForEachIndex(context.threads, slabs, [&](size_t slab) -> absl::Status {
      RETURN_IF_ERROR(context.Check());
      thread_local at::Tensor memory;
      const int64_t first = static_cast<int64_t>(slab) * step;
      const int64_t count = std::min(step, rows - first);
      ASSIGN_OR_RETURN(const StoredRows part,
                       ReadStoredRows(checkpoint, *weight, first, count, memory));
      MultiplyRows(part, input.data_ptr<float>(), x.size(1), out.data_ptr<float>() + first, rows);
      return absl::OkStatus();
    }));
  }
  if (bias.defined()) out.add_(bias.unsqueeze(1));
  return out;
}

absl::StatusOr<at::Tensor> LoadChannel(const Checkpoint& checkpoint, const LinearTensors& linear,
                                       int64_t channel) {
  if (linear.transposed) {
    ASSIGN_OR_RETURN(const at::Tensor weight, LoadTensor(checkpoint, linear.weight));
    return weight.select(1, channel).clone();
  }
  ASSIGN_OR_RETURN(const StoredTensor* weight, checkpoint.Find(linear.weight.name));
  at::Tensor row = at::empty({weight->info.shape[1]}, at::kFloat);
  RETURN_IF_ERROR(checkpoint.ReadRows(*weight, channel, 1, FloatsOf(row)));
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
