// What Checkpoint does for weights that are stored as codes with scales.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_files.h"
#include "checkpoint/weight_scales.h"
#include "fmt/format.h"
#include "format/json.h"
#include "tensor/float16.h"
#include "tensor/float8.h"

namespace linchpin {
namespace {

constexpr std::string_view kPacked = "_packed";
constexpr std::string_view kExpert = ".experts.";  // in the names of all families
constexpr int64_t kWordBits = 32;
constexpr int64_t kReadChunk = int64_t{1} << 17;  // elements

// Codes of `bits` each, the first of a byte in its lowest bits, as signed numbers.
void WidenPacked(const std::byte* source, int bits, int64_t count, float* out) {
  const int per_byte = 8 / bits;
  const int mask = (1 << bits) - 1;
  for (int64_t i = 0; i < count; ++i) {
    const int byte = static_cast<uint8_t>(source[i / per_byte]);
    const int code = byte >> (i % per_byte * bits) & mask;
    out[i] = static_cast<float>(code - (1 << (bits - 1)));
  }
}

void WidenCodes(const StoredTensor& tensor, const std::byte* source, int64_t count, float* out) {
  if (tensor.packed) return WidenPacked(source, tensor.packed->bits, count, out);
  if (tensor.info.dtype == DType::kF8E4M3) return WidenF8E4M3(source, count, out);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int8_t>(source[i]);
}

absl::Status DoesNotFit(const std::string& where, const TensorInfo& part,
                        const std::vector<int64_t>& weight) {
  return Error(Reason::kTensorShapeInvalid, where,
               fmt::format("{} {} does not belong to a weight {}", NameOf(part.dtype),
                           ShapeText(part.shape), ShapeText(weight)),
               "one scale, one per row, per group of a row, or per 128 x 128 block can be read");
}

}  // namespace

absl::Status Checkpoint::AddScales(DType dtype) {
  for (StoredTensor& tensor : tensors_) {
    if (tensor.info.dtype != dtype) continue;
    for (const std::string_view suffix : kScaleSuffixes) {
      const auto scales = by_name_.find(fmt::format("{}{}", tensor.info.name, suffix));
      if (scales == by_name_.end()) continue;
      const TensorInfo& info = tensors_[scales->second].info;
      if (!IsFloatWeight(info.dtype) || !GridOf(tensor.info.shape, info.shape)) {
        return DoesNotFit(Where(tensors_[scales->second]), info, tensor.info.shape);
      }
      tensor.scales = scales->second;
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<CompressionConfig> Checkpoint::Unpack() {
  const std::string file = JoinPath(directory_, kConfigName);
  ASSIGN_OR_RETURN(Json config, ParseJson(file, config_text_, Reason::kConfigInvalid));
  ASSIGN_OR_RETURN(CompressionConfig compression, CompressionConfig::Parse(file, config));
  if (!compression.compressed()) return compression;
  RETURN_IF_ERROR(AddScales(DType::kI8));
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorInfo& info = tensors_[i].info;
    if (info.dtype == DType::kI32 && info.name.ends_with(kPacked)) RETURN_IF_ERROR(UnpackTensor(i));
  }
  const auto tied = config.find("tie_word_embeddings");
  AddAliases(tied != config.end() && tied->is_boolean() && tied->get<bool>());
  config.erase("quantization_config");
  config_text_ = config.dump();
  return compression;
}

absl::Status Checkpoint::UnpackTensor(size_t packed) {
  StoredTensor& tensor = tensors_[packed];
  const std::string name = tensor.info.name.substr(0, tensor.info.name.size() - kPacked.size());
  if (Has(name) || Has(name + "_g_idx")) {
    return Error(Reason::kFeatureUnsupported, Where(tensor),
                 "beside it stands the weight itself, or another order of its columns",
                 "evaluate the model that it was made from");
  }
  ASSIGN_OR_RETURN(std::vector<int64_t> shape, UnpackedShape(tensor, name));
  PackedCodes codes{static_cast<int>(kWordBits * tensor.info.shape[1] / shape[1])};
  ASSIGN_OR_RETURN(const StoredTensor* scales, Find(name + "_scale"));
  const auto grid = GridOf(shape, scales->info.shape);
  if (!IsFloatWeight(scales->info.dtype) || scales->info.shape.size() != 2 || !grid ||
      grid->rows != 1) {
    return DoesNotFit(Where(*scales), scales->info, shape);
  }
  if (const auto zeros = by_name_.find(name + "_zero_point"); zeros != by_name_.end()) {
    const TensorInfo& info = tensors_[zeros->second].info;
    const int64_t per_word = kWordBits / codes.bits;
    const std::vector<int64_t> expected = {(shape[0] + per_word - 1) / per_word,
                                           scales->info.shape[1]};
    if (info.dtype != DType::kI32 || info.shape != expected) {
      return DoesNotFit(Where(tensors_[zeros->second]), info, shape);
    }
    codes.zero_points = zeros->second;
  }
  codes.rounded = codes.zero_points || name.find(kExpert) != std::string::npos;
  tensor.scales = static_cast<size_t>(scales - tensors_.data());
  tensor.packed = codes;
  by_name_.erase(tensor.info.name);
  by_name_.emplace(name, packed);
  tensor.info = {name, DType::kF32, std::move(shape)};
  return absl::OkStatus();
}

// As its `_shape` says, which must be the one that the words hold.
absl::StatusOr<std::vector<int64_t>> Checkpoint::UnpackedShape(const StoredTensor& packed,
                                                               std::string_view weight) const {
  ASSIGN_OR_RETURN(const StoredTensor* stored, Find(fmt::format("{}_shape", weight)));
  const TensorInfo& info = packed.info;
  std::vector<int64_t> shape(2);
  if (stored->info.dtype != DType::kI64 || ElementCount(stored->info.shape) != 2) {
    return DoesNotFit(Where(*stored), stored->info, info.shape);
  }
  const auto bytes = absl::MakeSpan(reinterpret_cast<std::byte*>(shape.data()), 16);
  RETURN_IF_ERROR(ReadStoredBytes(*stored, 0, bytes));
  const bool fits = info.shape.size() == 2 && shape[0] == info.shape[0] && shape[1] > 0 &&
                    (shape[1] == info.shape[1] * 4 || shape[1] == info.shape[1] * 8);
  if (!fits) return DoesNotFit(Where(packed), info, shape);
  return shape;
}

absl::StatusOr<Matrix> Checkpoint::ScalesOfRows(const StoredTensor& tensor, int64_t first,
                                                int64_t count) const {
  const StoredTensor& scales = tensors_[*tensor.scales];
  const ScaleGrid grid = *GridOf(tensor.info.shape, scales.info.shape);
  const int64_t above = first / grid.rows;
  const int64_t rows = (first + count - 1) / grid.rows - above + 1;
  if (scales.info.shape.size() == 2) return ReadRows(scales, above, rows);
  // A vector of scales is one per row, whatever its shape.
  ASSIGN_OR_RETURN(Matrix listed, ReadRows(scales, 0, 1));
  listed.data.erase(listed.data.begin(), listed.data.begin() + above);
  return Matrix{listed.data, static_cast<int64_t>(listed.data.size()), 1};
}

absl::Status Checkpoint::SubtractZeroPoints(const StoredTensor& tensor, int64_t first,
                                            int64_t columns, absl::Span<float> rows) const {
  const StoredTensor& zeros = tensors_[*tensor.packed->zero_points];
  const int bits = tensor.packed->bits;
  const int64_t per_word = kWordBits / bits;
  const int64_t groups = zeros.info.shape[1];
  const int64_t width = columns / groups;
  const int64_t count = static_cast<int64_t>(rows.size()) / columns;
  const int64_t above = first / per_word;
  std::vector<uint32_t> words(
      static_cast<size_t>(((first + count - 1) / per_word - above + 1) * groups));
  RETURN_IF_ERROR(ReadStoredBytes(
      zeros, static_cast<uint64_t>(above * groups) * sizeof(uint32_t),
      absl::MakeSpan(reinterpret_cast<std::byte*>(words.data()), words.size() * sizeof(uint32_t))));
  for (int64_t i = 0; i < count * groups; ++i) {
    const int64_t row = first + i / groups;
    const uint32_t word =
        words[static_cast<size_t>((row / per_word - above) * groups + i % groups)];
    const uint32_t code = word >> (row % per_word * bits) & ((1U << bits) - 1);
    const float zero = static_cast<float>(code) - static_cast<float>(1 << (bits - 1));
    for (float& value : rows.subspan(static_cast<size_t>(i * width), static_cast<size_t>(width))) {
      value -= zero;
    }
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::ReadCodedRows(const StoredTensor& tensor, int64_t first, int64_t columns,
                                       absl::Span<float> out) const {
  if (out.empty()) return absl::OkStatus();
  const auto elements = static_cast<int64_t>(out.size());
  const int bits = tensor.packed ? tensor.packed->bits : 8;
  const auto bytes_of = [bits](int64_t codes) { return static_cast<size_t>(codes * bits / 8); };
  thread_local std::vector<std::byte> chunk(kReadChunk);
  for (int64_t done = 0; done < elements; done += kReadChunk) {
    const int64_t next = std::min(kReadChunk, elements - done);
    RETURN_IF_ERROR(ReadStoredBytes(tensor, bytes_of(first * columns + done),
                                    absl::MakeSpan(chunk.data(), bytes_of(next))));
    WidenCodes(tensor, chunk.data(), next, out.data() + done);
  }
  if (tensor.packed && tensor.packed->zero_points) {
    RETURN_IF_ERROR(SubtractZeroPoints(tensor, first, columns, out));
  }
  ASSIGN_OR_RETURN(const Matrix scales, ScalesOfRows(tensor, first, elements / columns));
  const TensorInfo& info = tensors_[*tensor.scales].info;
  ApplyScales(*GridOf(tensor.info.shape, info.shape), first, columns, scales, out);
  if (!tensor.packed || !tensor.packed->rounded) return absl::OkStatus();
  for (float& value : out) value = RoundTo(info.dtype, value);
  return absl::OkStatus();
}

}  // namespace linchpin
