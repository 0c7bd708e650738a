#include "format/gguf.h"

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "format/little_endian.h"
#include "tensor/tensor_info.h"

namespace linchpin {
namespace {

constexpr uint32_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDimensions = 4;  // as in ggml
constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kLeastPair = 8 + 4 + 1;        // bytes: key, type, value
constexpr uint64_t kLeastTensor = 8 + 4 + 4 + 8;  // name, dimensions, type, offset
constexpr uint64_t kLeastString = 8;
constexpr std::string_view kAlignmentKey = "general.alignment";

bool HasControlByte(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string Within(std::string_view file, std::string_view kind, std::string_view name) {
  return fmt::format("{}: {} {}", file, kind, name);
}

uint64_t AlignUp(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// What ends the reading of a prefix that may yet be continued.
absl::Status NeedsMore() { return absl::OutOfRangeError(""); }

class HeaderReader {
 public:
  HeaderReader(std::string_view file, std::string_view prefix, uint64_t file_size)
      : file_(file),
        prefix_(prefix),
        file_size_(file_size),
        end_(std::min(file_size, kMaxGgufHeaderBytes)) {}

  absl::StatusOr<GgufHeader> Read() {
    RETURN_IF_ERROR(ReadVersion());
    ASSIGN_OR_RETURN(const uint64_t tensors, ReadCount(kLeastTensor, "tensors"));
    ASSIGN_OR_RETURN(const uint64_t pairs, ReadCount(kLeastPair, "key-value pairs"));
    for (uint64_t i = 0; i < pairs; ++i) RETURN_IF_ERROR(ReadPair());
    RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < tensors; ++i) RETURN_IF_ERROR(ReadTensor());
    RETURN_IF_ERROR(PlaceTensors());
    return std::move(header_);
  }

 private:
  absl::Status Invalid(std::string_view why, std::string_view remedy = kMalformedRemedy) const {
    return Error(Reason::kHeaderInvalid, where_.empty() ? file_ : where_, why, remedy);
  }

  absl::Status BadRange(const GgufTensor& tensor, std::string_view why) const {
    return Error(Reason::kTensorRangeInvalid, Within(file_, "tensor", tensor.name), why,
                 "the file is damaged or truncated; fetch it again");
  }

  // The next `count` bytes.
  absl::StatusOr<std::string_view> Take(uint64_t count) {
    if (count > end_ - at_) {
      return Invalid(end_ == file_size_
                         ? fmt::format("{} bytes from byte {} on in a file of {}", count, at_, end_)
                         : fmt::format("the header is longer than {} bytes", end_),
                     "the file is damaged or truncated; fetch it again");
    }
    if (count > prefix_.size() - at_) return NeedsMore();
    const std::string_view taken = prefix_.substr(at_, count);
    at_ += count;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Number() {
    ASSIGN_OR_RETURN(const std::string_view bytes, Take(sizeof(T)));
    return static_cast<T>(LoadLittleEndian(bytes));
  }

  absl::StatusOr<std::string_view> String() {
    ASSIGN_OR_RETURN(const auto length, Number<uint64_t>());
    return Take(length);
  }

  // A count of things that take at least `least` bytes each.
  absl::StatusOr<uint64_t> ReadCount(uint64_t least, std::string_view things) {
    ASSIGN_OR_RETURN(const auto count, Number<uint64_t>());
    if (count <= (end_ - at_) / least) return count;
    return Invalid(fmt::format("{} {} do not fit into {} bytes", count, things, end_ - at_));
  }

  absl::Status ReadVersion() {
    ASSIGN_OR_RETURN(const std::string_view magic, Take(4));
    if (magic != "GGUF") {
      return Error(Reason::kFormatRefused, file_, "not a GGUF file", "check what the file is");
    }
    ASSIGN_OR_RETURN(const auto version, Number<uint32_t>());
    if (version == 2 || version == 3) return absl::OkStatus();
    if (version != 0 && (version & 0xffff) == 0) {
      return Error(Reason::kFormatRefused, file_, "a big-endian GGUF file",
                   "convert it to little-endian");
    }
    return Error(Reason::kFormatRefused, file_,
                 fmt::format("version {} of GGUF; 2 and 3 are read", version),
                 "convert the model again with a current tool");
  }

  absl::StatusOr<GgufValueType> ReadType() {
    ASSIGN_OR_RETURN(const auto type, Number<uint32_t>());
    if (type <= static_cast<uint32_t>(GgufValueType::kF64)) return static_cast<GgufValueType>(type);
    return Invalid(fmt::format("value type {} is not known", type));
  }

  absl::StatusOr<GgufArray> ReadArray(int depth) {
    if (depth > kMaxArrayDepth) {
      return Invalid(fmt::format("arrays nest more than {} deep", kMaxArrayDepth));
    }
    GgufArray array;
    ASSIGN_OR_RETURN(array.type, ReadType());
    const uint64_t size = SizeOf(array.type);
    ASSIGN_OR_RETURN(array.count, ReadCount(size == 0 ? kLeastString : size, "values"));
    const uint64_t begin = at_;
    if (size != 0) RETURN_IF_ERROR(Take(array.count * size).status());
    for (uint64_t i = 0; size == 0 && i < array.count; ++i) {
      RETURN_IF_ERROR(array.type == GgufValueType::kString ? String().status()
                                                           : ReadArray(depth + 1).status());
    }
    array.bytes = prefix_.substr(begin, at_ - begin);
    return array;
  }

  absl::StatusOr<GgufValue> ReadValue() {
    ASSIGN_OR_RETURN(const GgufValueType type, ReadType());
    if (type == GgufValueType::kString) return String();
    if (type == GgufValueType::kArray) return ReadArray(1);
    ASSIGN_OR_RETURN(const std::string_view bytes, Take(SizeOf(type)));
    if (type == GgufValueType::kBool && LoadLittleEndian(bytes) > 1) {
      return Invalid(fmt::format("{} is neither true nor false", LoadLittleEndian(bytes)));
    }
    return LoadGgufValue(type, bytes);
  }

  absl::Status ReadPair() {
    where_.clear();
    ASSIGN_OR_RETURN(const std::string_view key, String());
    if (key.empty() || HasControlByte(key)) {
      return Invalid("a key is empty or has control characters");
    }
    where_ = Within(file_, "key", key);
    const uint64_t begin = at_;
    ASSIGN_OR_RETURN(const GgufValue value, ReadValue());
    header_.pairs.push_back({key, prefix_.substr(begin, at_ - begin)});
    if (!header_.metadata.emplace(key, value).second) return Invalid("stands twice");
    return absl::OkStatus();
  }

  absl::Status ReadAlignment() {
    where_ = Within(file_, "key", kAlignmentKey);
    const auto entry = header_.metadata.find(kAlignmentKey);
    if (entry == header_.metadata.end()) return absl::OkStatus();
    const auto* value = std::get_if<uint64_t>(&entry->second);
    if (value == nullptr || !std::has_single_bit(*value) || *value > UINT32_MAX) {
      return Invalid("must be a power of two of 32 bits");
    }
    alignment_ = *value;
    return absl::OkStatus();
  }

  absl::Status ReadTensor() {
    where_.clear();
    GgufTensor tensor;
    ASSIGN_OR_RETURN(const std::string_view name, String());
    if (name.empty() || HasControlByte(name)) {
      return Invalid("a tensor name is empty or has control characters");
    }
    tensor.name = name;
    where_ = Within(file_, "tensor", name);
    if (!names_.insert(name).second) return Invalid("stands twice");
    RETURN_IF_ERROR(ReadShape(tensor));
    RETURN_IF_ERROR(ReadElementType(tensor));
    ASSIGN_OR_RETURN(tensor.begin, Number<uint64_t>());
    header_.tensors.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  absl::Status ReadShape(GgufTensor& tensor) {
    ASSIGN_OR_RETURN(const auto dimensions, Number<uint32_t>());
    if (dimensions > kMaxDimensions) {
      return Invalid(fmt::format("{} dimensions, more than {}", dimensions, kMaxDimensions));
    }
    for (uint32_t i = 0; i < dimensions; ++i) {
      ASSIGN_OR_RETURN(const auto dimension, Number<uint64_t>());
      if (dimension > INT64_MAX) {
        return BadRange(tensor, fmt::format("dimension {} is impossible", dimension));
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dimension));
    }
    return absl::OkStatus();
  }

  absl::Status ReadElementType(GgufTensor& tensor) {
    ASSIGN_OR_RETURN(const auto id, Number<uint32_t>());
    tensor.type = FindGgufBlockType(id);
    if (tensor.type == nullptr || !tensor.type->readable()) {
      return Error(Reason::kDtypeUnsupported, where_,
                   tensor.type == nullptr
                       ? fmt::format("element type {} is not known", id)
                       : fmt::format("element type {} ({}) is not built", tensor.type->name, id),
                   "give the model in another quantization, or its original checkpoint");
    }
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % tensor.type->elements == 0) return absl::OkStatus();
    return Error(Reason::kTensorShapeInvalid, where_,
                 fmt::format("rows of {} are no multiple of the {} elements of a {} block", row,
                             tensor.type->elements, tensor.type->name),
                 kMalformedRemedy);
  }

  // Turns offsets within the data into offsets within the file.
  absl::Status PlaceTensors() {
    const uint64_t data_begin = AlignUp(at_, alignment_);
    for (GgufTensor& tensor : header_.tensors) RETURN_IF_ERROR(Place(tensor, data_begin));
    auto& tensors = header_.tensors;
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    for (size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i].begin < tensors[i - 1].end) {
        return BadRange(tensors[i],
                        fmt::format("its data begins at byte {} and overlaps {}, which ends at {}",
                                    tensors[i].begin, tensors[i - 1].name, tensors[i - 1].end));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Place(GgufTensor& tensor, uint64_t data_begin) const {
    const std::optional<int64_t> elements = ElementCount(tensor.shape);
    int64_t bytes = 0;
    if (!elements ||
        __builtin_mul_overflow(*elements / tensor.type->elements, tensor.type->bytes, &bytes)) {
      return BadRange(tensor, fmt::format("shape {} overflows", ShapeText(tensor.shape)));
    }
    if (tensor.begin % alignment_ != 0) {
      return BadRange(tensor,
                      fmt::format("offset {} is no multiple of {}", tensor.begin, alignment_));
    }
    const auto size = static_cast<uint64_t>(bytes);
    const uint64_t data_size = file_size_ - std::min(data_begin, file_size_);
    if (data_begin > file_size_ || tensor.begin > data_size || size > data_size - tensor.begin) {
      return BadRange(tensor, fmt::format("{} bytes at offset {} of {} data bytes", size,
                                          tensor.begin, data_size));
    }
    tensor.begin += data_begin;
    tensor.end = tensor.begin + size;
    return absl::OkStatus();
  }

  const std::string file_;
  const std::string_view prefix_;
  const uint64_t file_size_;
  const uint64_t end_;  // the header must end before
  uint64_t at_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  std::string where_;  // the entry in hand, for errors
  std::set<std::string_view> names_;
  GgufHeader header_;
};

}  // namespace

absl::StatusOr<std::optional<GgufHeader>> ParseGgufHeader(std::string_view file,
                                                          std::string_view prefix,
                                                          uint64_t file_size) {
  prefix = prefix.substr(0, std::min(file_size, kMaxGgufHeaderBytes));
  absl::StatusOr<GgufHeader> header = HeaderReader(file, prefix, file_size).Read();
  if (header.ok()) return std::optional(*std::move(header));
  if (absl::IsOutOfRange(header.status())) return std::optional<GgufHeader>();
  return header.status();
}

}  // namespace linchpin
