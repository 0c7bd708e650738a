#include "artifact/read_back.h"

#include <cstring>
#include <functional>
#include <limits>
#include <optional>

#include "base/status.h"
#include "fmt/format.h"
#include "tensor/float16.h"
#include "tensor/float8.h"

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

// Several codes to a word, 4 or 8 bits each, along a dimension of [rows, columns].
struct PackedCodes {
  const StoredBytes& words;
  int bits = 4;

  int64_t per_word() const { return 32 / bits; }

  // The code in field `field` of word `index`, as a signed number.
  absl::StatusOr<float> At(int64_t index, int64_t field) const {
    std::byte bytes[4];
    RETURN_IF_ERROR(words.read(static_cast<uint64_t>(4 * index), {bytes, 4}));
    uint32_t word = 0;
    std::memcpy(&word, bytes, 4);
    const uint32_t code = word >> (bits * field) & ((1U << bits) - 1);
    return static_cast<float>(static_cast<int>(code) - (1 << (bits - 1)));
  }
};

// The tensors that stand for one weight.
struct Quantized {
  StoredBytes codes;
  StoredBytes scale;
  std::optional<StoredBytes> zero_point;
};

absl::Status CheckWords(const TensorInfo& info) {
  if (info.dtype != DType::kI32 || info.shape.size() != 2) {
    return Malformed(info, "not a matrix of packed words");
  }
  if (info.shape[1] > std::numeric_limits<int64_t>::max() / 8) return Malformed(info, "too wide");
  return absl::OkStatus();
}

// Groups of a row, from the scales [rows, groups].
absl::StatusOr<int64_t> GroupsOf(const StoredBytes& scale, int64_t rows, int64_t columns) {
  if (!IsFloatWeight(scale.info.dtype) || scale.info.shape.size() != 2) {
    return Malformed(scale.info, "not a matrix of scales");
  }
  const int64_t groups = scale.info.shape[1];
  if (scale.info.shape[0] != rows || groups <= 0 || columns % groups != 0) {
    return Malformed(scale.info, fmt::format("does not fit rows of {}", columns));
  }
  return groups;
}

absl::StatusOr<float> ReadZeroPoint(const StoredBytes& zero_point, int bits, int64_t row,
                                    int64_t group, int64_t groups) {
  RETURN_IF_ERROR(CheckWords(zero_point.info));
  const PackedCodes codes{zero_point, bits};
  if (zero_point.info.shape[1] != groups || row / codes.per_word() >= zero_point.info.shape[0]) {
    return Malformed(zero_point.info, "does not fit the scales");
  }
  return codes.At(row / codes.per_word() * groups + group, row % codes.per_word());
}

// (code - zero point) x scale, rounded to the scale's dtype as consumers do.
absl::StatusOr<float> ReadPacked(const Quantized& weight, int bits,
                                 const WeightPosition& position) {
  RETURN_IF_ERROR(CheckWords(weight.codes.info));
  const PackedCodes codes{weight.codes, bits};
  const int64_t words = weight.codes.info.shape[1];
  const int64_t columns = codes.per_word() * words;
  RETURN_IF_ERROR(CheckMatrix(weight.codes.info, position, columns));
  ASSIGN_OR_RETURN(const int64_t groups,
                   GroupsOf(weight.scale, weight.codes.info.shape[0], columns));
  ASSIGN_OR_RETURN(float code, codes.At(position.row * words + position.column / codes.per_word(),
                                        position.column % codes.per_word()));
  const int64_t group = position.column / (columns / groups);
  if (weight.zero_point) {
    ASSIGN_OR_RETURN(const float zero,
                     ReadZeroPoint(*weight.zero_point, bits, position.row, group, groups));
    code -= zero;
  }
  ASSIGN_OR_RETURN(const float step, ReadElement(weight.scale, position.row * groups + group));
  return RoundTo(weight.scale.info.dtype, code * step);
}

// One code to a byte: I8 or F8_E4M3.
absl::StatusOr<float> ReadBytewise(const Quantized& weight, const WeightPosition& position) {
  const TensorInfo& info = weight.codes.info;
  if (info.shape.size() != 2) return Malformed(info, "not a matrix");
  const int64_t columns = info.shape[1];
  RETURN_IF_ERROR(CheckMatrix(info, position, columns));
  ASSIGN_OR_RETURN(const int64_t groups, GroupsOf(weight.scale, info.shape[0], columns));
  std::byte byte{};
  RETURN_IF_ERROR(weight.codes.read(static_cast<uint64_t>(position.row * columns + position.column),
                                    {&byte, 1}));
  const float code = info.dtype == DType::kI8 ? static_cast<float>(static_cast<int8_t>(byte))
                                              : FromF8E4M3(static_cast<uint8_t>(byte));
  ASSIGN_OR_RETURN(
      const float step,
      ReadElement(weight.scale, position.row * groups + position.column / (columns / groups)));
  return RoundTo(weight.scale.info.dtype, code * step);
}

// Bits of a code, from the true row length in `weight_shape`; 4 without it.
absl::StatusOr<int> BitsOf(const StoredBytes& packed, const std::optional<StoredBytes>& shape) {
  if (!shape || packed.info.shape.size() != 2) return 4;
  std::byte bytes[16];
  if (shape->info.dtype != DType::kI64 || shape->info.shape != std::vector<int64_t>{2}) {
    return Malformed(shape->info, "not the shape of a matrix");
  }
  RETURN_IF_ERROR(shape->read(0, bytes));
  int64_t columns = 0;
  std::memcpy(&columns, bytes + 8, 8);
  for (const int bits : {4, 8}) {
    if (columns == packed.info.shape[1] * (32 / bits)) return bits;
  }
  return Malformed(packed.info, fmt::format("does not hold rows of {}", columns));
}

absl::StatusOr<float> ReadThrough(const Lookup& find, const WeightPosition& position) {
  const auto plain = find(position.tensor);
  const auto scale = find(position.tensor + "_scale");
  if (plain && scale && (plain->info.dtype == DType::kI8 || plain->info.dtype == DType::kF8E4M3)) {
    return ReadBytewise({*plain, *scale, std::nullopt}, position);
  }
  if (plain) return ReadPlain(*plain, position);
  const auto packed = find(position.tensor + "_packed");
  if (packed && scale) {
    ASSIGN_OR_RETURN(const int bits, BitsOf(*packed, find(position.tensor + "_shape")));
    return ReadPacked({*packed, *scale, find(position.tensor + "_zero_point")}, bits, position);
  }
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
  if (output.is_gguf()) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, output.Find(position.tensor));
    RETURN_IF_ERROR(CheckMatrix(tensor->info, position,
                                tensor->info.shape.empty() ? 0 : tensor->info.shape.back()));
    ASSIGN_OR_RETURN(const Matrix row, output.ReadRows(*tensor, position.row, 1));
    return row.View().At(0, position.column);
  }
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
