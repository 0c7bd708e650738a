#include "forward/tensor_loading.h"

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

at::ScalarType TorchType(DType dtype) {
  if (dtype == DType::kBF16) return at::kBFloat16;
  return dtype == DType::kF16 ? at::kHalf : at::kFloat;
}

std::string Where(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  return fmt::format("{}: {}", checkpoint.shards()[tensor.shard].name, tensor.info.name);
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

absl::StatusOr<at::Tensor> LoadRows(const Checkpoint& checkpoint, const StoredTensor& tensor,
                                    int64_t first, int64_t count) {
  const int64_t columns = tensor.info.shape.size() > 1 ? tensor.info.shape[1] : 1;
  const int64_t row_bytes = columns * SizeOf(tensor.info.dtype);
  at::Tensor raw = at::empty({count, columns}, TorchType(tensor.info.dtype));
  RETURN_IF_ERROR(checkpoint.ReadBytes(
      tensor, static_cast<uint64_t>(first * row_bytes),
      absl::MakeSpan(static_cast<std::byte*>(raw.data_ptr()), count * row_bytes)));
  if (tensor.info.shape.size() == 1) raw = raw.squeeze(1);
  return raw.to(at::kFloat);
}

absl::StatusOr<at::Tensor> LoadTensor(const Checkpoint& checkpoint,
                                      const ExpectedTensor& expected) {
  if (expected.name.empty()) return at::Tensor();
  ASSIGN_OR_RETURN(const StoredTensor* tensor, checkpoint.Find(expected.name));
  return LoadRows(checkpoint, *tensor, 0, tensor->info.shape[0]);
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
