#include "format/gguf_layout.h"

#include <bit>
#include <set>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "format/gguf_value.h"
#include "format/little_endian.h"
#include "tensor/tensor_info.h"

namespace linchpin {
namespace {

constexpr uint64_t kAlignment = 32;
constexpr size_t kMaxDimensions = 4;

std::string Text(std::string_view text) {
  return LittleEndian(static_cast<uint64_t>(text.size())) + std::string(text);
}

std::string Type(GgufValueType type) { return LittleEndian(static_cast<uint32_t>(type)); }

// A type and then a value, or an array's: type, count and values.
std::string TypedBytes(bool value) {
  return Type(GgufValueType::kBool) + LittleEndian(static_cast<uint8_t>(value));
}
std::string TypedBytes(uint32_t value) { return Type(GgufValueType::kU32) + LittleEndian(value); }
std::string TypedBytes(float value) {
  return Type(GgufValueType::kF32) + LittleEndian(std::bit_cast<uint32_t>(value));
}
std::string TypedBytes(std::string_view value) {
  return Type(GgufValueType::kString) + Text(value);
}

std::string ArrayStart(GgufValueType type, size_t count) {
  return Type(GgufValueType::kArray) + Type(type) + LittleEndian(static_cast<uint64_t>(count));
}

std::string TypedBytes(absl::Span<const std::string> values) {
  std::string bytes = ArrayStart(GgufValueType::kString, values.size());
  for (const std::string& value : values) bytes += Text(value);
  return bytes;
}

std::string TypedBytes(absl::Span<const int32_t> values) {
  std::string bytes = ArrayStart(GgufValueType::kI32, values.size());
  for (const int32_t value : values) bytes += LittleEndian(static_cast<uint32_t>(value));
  return bytes;
}

std::string TypedBytes(absl::Span<const float> values) {
  std::string bytes = ArrayStart(GgufValueType::kF32, values.size());
  for (const float value : values) bytes += LittleEndian(std::bit_cast<uint32_t>(value));
  return bytes;
}

uint64_t AlignUp(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

absl::StatusOr<uint64_t> AlignmentOf(std::string_view file, absl::Span<const GgufKeyValue> pairs) {
  for (const GgufKeyValue& pair : pairs) {
    if (pair.key != "general.alignment") continue;
    if (pair.value.size() == 8 && pair.value.starts_with(Type(GgufValueType::kU32))) {
      const uint64_t value = LoadLittleEndian(pair.value.substr(4));
      if (std::has_single_bit(value)) return value;
    }
    return Error(Reason::kHeaderInvalid, fmt::format("{}: key {}", file, pair.key),
                 "must be a power of two of 32 bits", "leave it out");
  }
  return kAlignment;
}

absl::Status CheckTensor(std::string_view file, const GgufTensor& tensor,
                         std::set<std::string_view>& names) {
  const auto fail = [&](Reason reason, std::string_view why) {
    return Error(reason, fmt::format("{}: tensor {}", file, tensor.name), why,
                 "write another format");
  };
  if (tensor.name.size() > kMaxGgufNameBytes) {
    return fail(Reason::kHeaderInvalid,
                fmt::format("its name is longer than {} bytes", kMaxGgufNameBytes));
  }
  if (!names.insert(tensor.name).second) return fail(Reason::kHeaderInvalid, "stands twice");
  if (tensor.shape.size() > kMaxDimensions) {
    return fail(Reason::kHeaderInvalid, "has more than 4 dimensions");
  }
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (ElementCount(tensor.shape) && row % tensor.type->elements == 0) return absl::OkStatus();
  return fail(Reason::kTensorShapeInvalid,
              fmt::format("{} cannot be stored as {}, whose blocks hold {}",
                          ShapeText(tensor.shape), tensor.type->name, tensor.type->elements));
}

uint64_t BytesOf(const GgufTensor& tensor) {
  return static_cast<uint64_t>(*ElementCount(tensor.shape) / tensor.type->elements *
                               tensor.type->bytes);
}

std::string EntryOf(const GgufTensor& tensor, uint64_t offset) {
  std::string entry = Text(tensor.name) + LittleEndian(static_cast<uint32_t>(tensor.shape.size()));
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    entry += LittleEndian(static_cast<uint64_t>(tensor.shape[i]));
  }
  return entry + LittleEndian(tensor.type->id) + LittleEndian(offset);
}

}  // namespace

std::string GgufValueBytes(const GgufNewValue& value) {
  return std::visit([](const auto& given) { return TypedBytes(given); }, value);
}

absl::StatusOr<GgufLayout> LayOutGguf(std::string_view file, absl::Span<const GgufKeyValue> pairs,
                                      std::vector<GgufTensor> tensors) {
  ASSIGN_OR_RETURN(const uint64_t alignment, AlignmentOf(file, pairs));
  GgufLayout layout;
  layout.header = "GGUF" + LittleEndian(uint32_t{3}) +
                  LittleEndian(static_cast<uint64_t>(tensors.size())) +
                  LittleEndian(static_cast<uint64_t>(pairs.size()));
  std::set<std::string_view> keys;
  for (const GgufKeyValue& pair : pairs) {
    if (!keys.insert(pair.key).second) {
      return Error(Reason::kHeaderInvalid, fmt::format("{}: key {}", file, pair.key),
                   "stands twice", "give it once");
    }
    layout.header += Text(pair.key);
    layout.header += pair.value;
  }
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (GgufTensor& tensor : tensors) {
    RETURN_IF_ERROR(CheckTensor(file, tensor, names));
    layout.header += EntryOf(tensor, offset);
    tensor.begin = offset;
    tensor.end = offset + BytesOf(tensor);
    offset = AlignUp(tensor.end, alignment);
  }
  layout.header.resize(AlignUp(layout.header.size(), alignment), '\0');
  for (GgufTensor& tensor : tensors) {
    tensor.begin += layout.header.size();
    tensor.end += layout.header.size();
  }
  layout.file_size = layout.header.size() + offset;
  layout.tensors = std::move(tensors);
  return layout;
}

}  // namespace linchpin
