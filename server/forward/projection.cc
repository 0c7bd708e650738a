#include "forward/projection.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "forward/compute_threads.h"

namespace linchpin {
namespace {

// Of float32 weights: what a core's own cache holds beside the activations; and
// where many tokens share a slab, enough rows for the product to be efficient.
constexpr int64_t kSlabElements = 1 << 17;
constexpr int64_t kLargeSlabElements = 1 << 20;
constexpr int64_t kManyTokens = 128;

int64_t SlabRows(int64_t columns, int64_t tokens) {
  const int64_t elements = tokens > kManyTokens ? kLargeSlabElements : kSlabElements;
  return std::max<int64_t>(1, elements / columns);
}

absl::Span<float> FloatsOf(const at::Tensor& tensor) {
  return absl::MakeSpan(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()));
}

// [in, out] weights: all of them at once, as their rows are what is summed over.
absl::StatusOr<at::Tensor> ProjectTransposed(const Checkpoint& checkpoint,
                                             const LinearTensors& linear, const at::Tensor& x) {
  ASSIGN_OR_RETURN(const at::Tensor weight, LoadTensor(checkpoint, linear.weight));
  return at::mm(weight.t(), x);
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

absl::StatusOr<at::Tensor> BorrowRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                      int64_t first, int64_t count) {
  ComputeOnThisThread();
  thread_local std::vector<float> memory;
  const int64_t columns = tensor.info.shape[1];
  const auto elements = static_cast<size_t>(count * columns);
  if (memory.size() < elements) memory.resize(elements);
  RETURN_IF_ERROR(
      checkpoint.ReadRows(tensor, first, count, absl::MakeSpan(memory.data(), elements)));
  return at::from_blob(memory.data(), {count, columns}, at::kFloat);
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
    const int64_t step = SlabRows(weight->info.shape[1], x.size(1));
    const at::Tensor input = x.contiguous();
    out = at::empty({rows, x.size(1)}, at::kFloat);
    const auto slabs = static_cast<size_t>((rows + step - 1) / step);
    RETURN_IF_ERROR(ForEachIndex(context.threads, slabs, [&](size_t slab) -> absl::Status {
      RETURN_IF_ERROR(context.Check());
      const int64_t first = static_cast<int64_t>(slab) * step;
      const int64_t count = std::min(step, rows - first);
      ASSIGN_OR_RETURN(const at::Tensor part, BorrowRows(checkpoint, *weight, first, count));
      at::Tensor into = out.narrow(0, first, count);
      at::mm_out(into, part, input);
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
  const int64_t step = is_matrix ? SlabRows(tensor->info.shape[1], 1) : 1;
  for (int64_t first = 0; first < rows; first += step) {
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(*tensor, first, std::min(step, rows - first)));
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(slab.data.begin(), slab.data.end(), finite)) return false;
  }
  return true;
}

}  // namespace linchpin
