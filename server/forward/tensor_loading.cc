#include "forward/tensor_loading.h"

#include <algorithm>

#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "forward/compute_threads.h"

namespace linchpin {
namespace {

at::ScalarType TorchType(DType dtype) {
  if (dtype == DType::kBF16) return at::kBFloat16;
  return dtype == DType::kF16 ? at::kHalf : at::kFloat;
}

std::string Where(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  return fmt::format("{}: {}", checkpoint.shards()[tensor.shard].name, tensor.info.name);
}

constexpr int64_t kSlabBytes = 4 << 20;

// A piece of a tensor to be read by one thread.
struct Slab {
  const StoredTensor* tensor;
  at::Tensor* out;
  int64_t first;
  int64_t rows;
};

int64_t RowBytes(const StoredTensor& tensor) {
  const int64_t columns = tensor.info.shape.size() > 1 ? tensor.info.shape[1] : 1;
  return columns * SizeOf(tensor.info.dtype);
}

absl::Span<std::byte> BytesOf(const at::Tensor& tensor) {
  return absl::MakeSpan(static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes());
}

}  // namespace

absl::Status CheckTensor(const Checkpoint& checkpoint, const ExpectedTensor& expected) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  if (tensor->info.shape != expected.shape) {
    return Error(Reason::kTensorShapeInvalid, Where(checkpoint, *tensor),
                 fmt::format("its shape is {} where config.json demands {}",
                             ShapeText(tensor->info.shape), ShapeText(expected.shape)),
                 "check that config.json belongs to these weights");
  }
  if (!IsFloatWeight(tensor->info.dtype)) {
    return Error(Reason::kDtypeUnsupported, Where(checkpoint, *tensor),
                 fmt::format("its dtype is {}", NameOf(tensor->info.dtype)),
                 "give a checkpoint in F32, F16 or BF16");
  }
  return absl::OkStatus();
}

absl::Status LoadRows(const Checkpoint& checkpoint, const StoredTensor& tensor, int64_t first,
                      at::Tensor out) {
  ComputeOnThisThread();
  const int64_t row_bytes = RowBytes(tensor);
  const auto offset = static_cast<uint64_t>(first * row_bytes);
  if (tensor.info.dtype == DType::kF32) {
    return checkpoint.ReadBytes(tensor, offset, BytesOf(out));
  }
  at::Tensor raw = at::empty(out.sizes(), TorchType(tensor.info.dtype));
  RETURN_IF_ERROR(checkpoint.ReadBytes(tensor, offset, BytesOf(raw)));
  out.copy_(raw);
  return absl::OkStatus();
}

absl::StatusOr<at::Tensor> LoadRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                    int64_t first, int64_t count) {
  std::vector<int64_t> shape = tensor.info.shape;
  shape[0] = count;
  at::Tensor out = at::empty(shape, at::kFloat);
  RETURN_IF_ERROR(LoadRows(checkpoint, tensor, first, out));
  return out;
}

absl::Status LoadTensors(const Checkpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                         const RunContext& context, absl::Span<at::Tensor> out) {
  std::vector<Slab> slabs;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i].name.empty()) continue;
    ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected[i].name));
    if (!out[i].defined() || out[i].sizes() != at::IntArrayRef(tensor->info.shape)) {
      out[i] = at::empty(tensor->info.shape, at::kFloat);
    }
    const int64_t step = std::max<int64_t>(1, kSlabBytes / RowBytes(*tensor));
    for (int64_t first = 0; first < tensor->info.shape[0]; first += step) {
      slabs.push_back({tensor, &out[i], first, std::min(step, tensor->info.shape[0] - first)});
    }
  }
  return ForEachIndex(context.threads, slabs.size(), [&](size_t i) -> absl::Status {
    RETURN_IF_ERROR(context.Check());
    const Slab& slab = slabs[i];
    return LoadRows(checkpoint, *slab.tensor, slab.first,
                    slab.out->narrow(0, slab.first, slab.rows));
  });
}

at::Tensor TensorOver(Matrix& matrix) {
  return at::from_blob(matrix.data.data(), {matrix.rows, matrix.columns}, at::kFloat);
}

at::Tensor TensorOver(const Matrix& matrix) {
  return at::from_blob(const_cast<float*>(matrix.data.data()), {matrix.rows, matrix.columns},
                       at::kFloat);
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps) {
  return x * at::rsqrt(x.square().mean(-1, true) + eps) * gain;
}

}  // namespace linchpin
