#include "artifact/read_back.h"

#include <cstring>
#include <functional>
#include <limits>
#include <optional>

#include "base/status.h"
#include "fmt/format.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// A tensor by name, or nothing.
using Lookup = std::function<std::optional<StoredBytes>(const std::string&)>;

absl::Status Malformed(const TensorInfo& info, std::string_view why) {
  return Error(Reason::kTensorShapeInvalid, info.name,
               fmt::format("{} {}: {}", NameOf(info.dtype), ShapeText(info.shape), why));
}

absl::StatusOr<float> ReadElement(const StoredBytes& tensor, int64_t index) {
  const int64_t size = SizeOf(tensor.info.dtype);
  std::byte bytes[8];
  RETURN_IF_ERROR(
      tensor.read(static_cast<uint64_t>(index * size), {bytes, static_cast<size_t>(size)}));
  float value = 0;
  WidenToFloat(tensor.info.dtype, bytes, 1, &value);
  return value;
}

absl::Status CheckMatrix(const TensorInfo& info, const WeightPosition& position, int64_t columns) {
  if (info.shape.size() != 2) return Malformed(info, "not a matrix");
  if (position.row < 0 || position.row >= info.shape[0] || position.column < 0 ||
      position.column >= columns) {
    return Malformed(info, fmt::format("no element [{}, {}]", position.row, position.column));
  }
  return absl::OkStatus();
}

absl::StatusOr<float> ReadPlain(const StoredBytes& tensor, const WeightPosition& position) {
  if (!IsFloatWeight(tensor.info.dtype)) return Malformed(tensor.info, "not a weight");
  if (tensor.info.shape.size() != 2) return Malformed(tensor.info, "not a matrix");
  const int64_t columns = tensor.info.shape[1];
  RETURN_IF_ERROR(CheckMatrix(tensor.info, position, columns));
  return ReadElement(tensor, position.row * columns + position.column);
}

absl::StatusOr<float> ReadPacked(const StoredBytes& packed, const StoredBytes& scale,
                                 const WeightPosition& position) {
  if (packed.info.dtype != DType::kI32 || packed.info.shape.size() != 2) {
    return Malformed(packed.info, "not a matrix of packed words");
  }
  const int64_t words = packed.info.shape[1];
  if (words > std::numeric_limits<int64_t>::max() / 8) return Malformed(packed.info, "too wide");
  const int64_t columns = 8 * words;
  RETURN_IF_ERROR(CheckMatrix(packed.info, position, columns));
  if (!IsFloatWeight(scale.info.dtype) || scale.info.shape.size() != 2) {
    return Malformed(scale.info, "not a matrix of scales");
  }
  const int64_t groups = scale.info.shape[1];
  if (scale.info.shape[0] != packed.info.shape[0] || groups <= 0 || columns % groups != 0) {
    return Malformed(scale.info, fmt::format("does not fit rows of {}", columns));
  }
  std::byte bytes[4];
  const int64_t word = position.row * words + position.column / 8;
  RETURN_IF_ERROR(packed.read(static_cast<uint64_t>(4 * word), {bytes, 4}));
  uint32_t codes = 0;
  std::memcpy(&codes, bytes, 4);
  const int code = static_cast<int>(codes >> (4 * (position.column % 8)) & 15) - 8;
  const int64_t group = position.column / (columns / groups);
  ASSIGN_OR_RETURN(const float step, ReadElement(scale, position.row * groups + group));
  return RoundTo(scale.info.dtype, static_cast<float>(code) * step);
}

absl::StatusOr<float> ReadThrough(const Lookup& find, const WeightPosition& position) {
  if (const auto plain = find(position.tensor)) return ReadPlain(*plain, position);
  const auto packed = find(position.tensor + "_packed");
  const auto scale = find(position.tensor + "_scale");
  if (packed && scale) return ReadPacked(*packed, *scale, position);
  return Error(Reason::kTensorMissing, position.tensor,
               "neither the tensor nor its packed form is in the output");
}

}  // namespace

absl::StatusOr<float> ReadBack(const std::map<std::string, StoredBytes>& tensors,
                               const WeightPosition& position) {
  return ReadThrough(
      [&tensors](const std::string& name) -> std::optional<StoredBytes> {
        const auto found = tensors.find(name);
        if (found == tensors.end()) return std::nullopt;
        return found->second;
      },
      position);
}

absl::StatusOr<float> ReadBack(const Checkpoint& output, const WeightPosition& position) {
  return ReadThrough(
      [&output](const std::string& name) -> std::optional<StoredBytes> {
        const absl::StatusOr<const StoredTensor*> found = output.Find(name);
        if (!found.ok()) return std::nullopt;
        const StoredTensor* tensor = *found;
        return StoredBytes{tensor->info, [&output, tensor](uint64_t at, absl::Span<std::byte> out) {
                             return output.ReadBytes(*tensor, at, out);
                           }};
      },
      position);
}

}  // namespace linchpin
