#include "format/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <utility>

#include "fmt/format.h"
#include "fmt/ranges.h"
#include "format/json.h"
#include "format/little_endian.h"

namespace linchpin {
namespace {

constexpr size_t kMaxDimensions = 32;

struct Magic {
  std::string_view bytes;
  std::string_view what;
  std::string_view remedy;
};

constexpr std::string_view kConvert = "convert the checkpoint to safetensors first";
constexpr Magic kRefused[] = {
    {"PK\x03\x04", "a zip archive (PyTorch or TorchScript), not safetensors", kConvert},
    {"\x80\x02", "a Python pickle, not safetensors; it is never opened", kConvert},
    {"\x80\x03", "a Python pickle, not safetensors; it is never opened", kConvert},
    {"\x80\x04", "a Python pickle, not safetensors; it is never opened", kConvert},
    {"\x80\x05", "a Python pickle, not safetensors; it is never opened", kConvert},
    {"GGUF", "a GGUF file, not safetensors", "name it .gguf and give that file"},
    {"\x89HDF\r\n\x1a\n", "an HDF5 file, not safetensors", kConvert},
    {"\x93NUMPY", "a NumPy file, not safetensors", kConvert},
    {"\x1f\x8b", "a gzip archive, not safetensors", "unpack it first"},
    {"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull"},
};

const Magic* FindMagic(std::string_view prefix) {
  for (const Magic& magic : kRefused) {
    if (prefix.substr(0, magic.bytes.size()) == magic.bytes) return &magic;
  }
  return nullptr;
}

bool HasControlByte(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string Within(std::string_view file, std::string_view tensor) {
  return fmt::format("{}: tensor {}", file, tensor);
}

// Reads the header as it comes: the format nests three deep, so that a flat
// state suffices, and a header of 100 MB costs no tree.
class HeaderReader final : public JsonReader {
 public:
  explicit HeaderReader(std::string_view file) : JsonReader(file, Reason::kHeaderInvalid) {}

  bool start_object(size_t) override {
    if (place_ == Place::kStart) return Go(Place::kTop);
    if (place_ == Place::kMetadataValue) return Go(Place::kMetadata);
    if (place_ != Place::kEntryValue) return FailUnexpected("an object");
    entry_ = {};
    entry_.info.name = name_;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return Go(Place::kEntry);
  }

  bool key(string_t& value) override {
    if (place_ == Place::kTop) return StartMember(std::move(value));
    if (place_ == Place::kMetadata) {
      metadata_key_ = std::move(value);
      return Go(Place::kMetadataText);
    }
    if (value == "dtype") return StartField(Place::kDtype, has_dtype_, value);
    if (value == "shape") return StartField(Place::kShapeArray, has_shape_, value);
    if (value == "data_offsets") return StartField(Place::kOffsetsArray, has_offsets_, value);
    return Fail(fmt::format("unknown key \"{}\"", value));
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadataText) {
      if (!header_.metadata.emplace(metadata_key_, std::move(value)).second) {
        return Fail(fmt::format("__metadata__: duplicate key \"{}\"", metadata_key_));
      }
      return Go(Place::kMetadata);
    }
    if (place_ != Place::kDtype) return FailUnexpected("a string");
    const std::optional<DType> dtype = ParseDType(value);
    if (!dtype) {
      return JsonReader::Fail(Error(Reason::kDtypeUnsupported, Where(),
                                    fmt::format("unknown dtype \"{}\"", value),
                                    "convert the tensor to F32, F16 or BF16"));
    }
    entry_.info.dtype = *dtype;
    return Go(Place::kEntry);
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShapeArray) return Go(Place::kShape);
    if (place_ == Place::kOffsetsArray) return Go(Place::kOffsets);
    return FailUnexpected("an array");
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kOffsets) {
      if (offset_count_ == 2) return Fail("data_offsets holds more than two numbers");
      (offset_count_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    if (place_ != Place::kShape) return FailUnexpected("a number");
    if (value > INT64_MAX) return FailRange(fmt::format("dimension {} is impossible", value));
    if (entry_.info.shape.size() == kMaxDimensions) {
      return Fail(fmt::format("more than {} dimensions", kMaxDimensions));
    }
    entry_.info.shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offset_count_ != 2) {
      return Fail("data_offsets must hold two numbers");
    }
    return Go(Place::kEntry);
  }

  bool null() override {  // the reference implementation writes no metadata as null, too
    return place_ == Place::kMetadataValue ? Go(Place::kTop) : FailUnexpected("null");
  }

  bool end_object() override {
    if (place_ == Place::kTop) return Go(Place::kEnd);
    if (place_ == Place::kMetadata) return Go(Place::kTop);
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      return Fail("dtype, shape or data_offsets is missing");
    }
    header_.entries.push_back(std::move(entry_));
    return Go(Place::kTop);
  }

  SafetensorsHeader Take() { return std::move(header_); }

 protected:
  std::string Where() const override {
    const bool in_entry = place_ >= Place::kEntryValue && place_ < Place::kEnd;
    return in_entry ? Within(file(), name_) : file();
  }

 private:
  enum class Place {
    kStart,
    kTop,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kEntryValue,
    kEntry,
    kDtype,
    kShapeArray,
    kShape,
    kOffsetsArray,
    kOffsets,
    kEnd
  };

  bool Go(Place place) {
    place_ = place;
    return true;
  }

  bool FailRange(std::string_view why) {
    return JsonReader::Fail(Error(Reason::kTensorRangeInvalid, Where(), why, kMalformedRemedy));
  }

  bool StartMember(std::string name) {
    if (HasControlByte(name)) return Fail("a tensor name with control characters");
    if (!names_.insert(name).second) return Fail(fmt::format("duplicate key \"{}\"", name));
    name_ = std::move(name);
    return Go(name_ == "__metadata__" ? Place::kMetadataValue : Place::kEntryValue);
  }

  bool StartField(Place place, bool& seen, std::string_view field) {
    if (std::exchange(seen, true)) return Fail(fmt::format("duplicate key \"{}\"", field));
    offset_count_ = 0;
    return Go(place);
  }

  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  Place place_ = Place::kStart;
  std::string name_;          // of the tensor in hand
  std::string metadata_key_;  // of the metadata in hand
  SafetensorsEntry entry_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offset_count_ = 0;
};

absl::Status CheckRange(std::string_view file, const SafetensorsEntry& entry, uint64_t data_size) {
  const auto fail = [&](std::string_view why) {
    return Error(Reason::kTensorRangeInvalid, Within(file, entry.info.name), why,
                 "the file is damaged or truncated; fetch it again");
  };
  if (entry.begin > entry.end) {
    return fail(fmt::format("data_offsets run backwards, {} to {}", entry.begin, entry.end));
  }
  if (entry.end > data_size) {
    return fail(fmt::format("its data ends at byte {} of {} data bytes", entry.end, data_size));
  }
  const std::optional<int64_t> bytes = ByteSize(entry.info);
  if (!bytes) return fail(fmt::format("shape {} overflows", ShapeText(entry.info.shape)));
  if (static_cast<uint64_t>(*bytes) != entry.end - entry.begin) {
    return fail(fmt::format("{} {} needs {} bytes, data_offsets give {}", NameOf(entry.info.dtype),
                            ShapeText(entry.info.shape), *bytes, entry.end - entry.begin));
  }
  return absl::OkStatus();
}

// Entries sorted by offset must follow each other; a zero-size tensor may stand
// at any boundary between them.
absl::Status CheckCoverage(std::string_view file, const std::vector<SafetensorsEntry>& entries,
                           uint64_t data_size) {
  uint64_t covered = 0;
  std::string_view previous = "the header";
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != covered) {
      return Error(
          Reason::kTensorRangeInvalid, Within(file, entry.info.name),
          fmt::format("its data begins at byte {} and {} {}, which ends at byte {}", entry.begin,
                      entry.begin < covered ? "overlaps" : "leaves a hole after", previous,
                      covered),
          kMalformedRemedy);
    }
    covered = entry.end;
    previous = entry.info.name;
  }
  if (covered == data_size) return absl::OkStatus();
  return Error(Reason::kTensorRangeInvalid, file,
               fmt::format("{} bytes after the last tensor, {}, belong to no tensor",
                           data_size - covered, previous),
               kMalformedRemedy);
}

std::string JsonText(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<uint64_t> SafetensorsHeaderLength(std::string_view file,
                                                 absl::Span<const std::byte> prefix,
                                                 uint64_t file_size) {
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()), prefix.size());
  const bool complete = prefix.size() >= kSafetensorsPrefixBytes;
  const uint64_t length = LoadLittleEndian(text.substr(0, kSafetensorsPrefixBytes));
  const bool begins_object =
      text.size() <= kSafetensorsPrefixBytes || text[kSafetensorsPrefixBytes] == '{';
  if (complete && file_size >= kSafetensorsPrefixBytes && length >= 2 && begins_object &&
      length <= std::min(kMaxSafetensorsHeaderBytes, file_size - kSafetensorsPrefixBytes)) {
    return length;
  }
  // Only now: a good file may begin with the bytes of a pickle, as its length.
  if (const Magic* magic = FindMagic(text)) {
    return Error(Reason::kFormatRefused, file, magic->what, magic->remedy);
  }
  const auto fail = [&](std::string_view why, std::string_view remedy = kMalformedRemedy) {
    return Error(Reason::kHeaderInvalid, file, why, remedy);
  };
  if (!complete || file_size < kSafetensorsPrefixBytes) {
    return fail(fmt::format("{} bytes are too few for a safetensors file", file_size));
  }
  if (length > kMaxSafetensorsHeaderBytes) {
    return fail(
        fmt::format("a header of {} bytes is longer than {}", length, kMaxSafetensorsHeaderBytes));
  }
  if (length > file_size - kSafetensorsPrefixBytes) {
    return fail(fmt::format("a header of {} bytes in a file of {}", length, file_size),
                "the file is truncated; fetch it again");
  }
  return fail("the header is not a JSON object");
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view file,
                                                         std::string_view json,
                                                         uint64_t file_size) {
  const uint64_t data_begin = kSafetensorsPrefixBytes + json.size();
  if (json.empty() || json.front() != '{' || json.size() > kMaxSafetensorsHeaderBytes ||
      data_begin > file_size) {
    return Error(Reason::kHeaderInvalid, file, "the header is not a JSON object within the file",
                 kMalformedRemedy);
  }
  HeaderReader reader(file);
  RETURN_IF_ERROR(ReadJson(file, json, Reason::kHeaderInvalid, reader));
  SafetensorsHeader header = reader.Take();
  const uint64_t data_size = file_size - data_begin;
  for (const SafetensorsEntry& entry : header.entries) {
    RETURN_IF_ERROR(CheckRange(file, entry, data_size));
  }
  std::stable_sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  RETURN_IF_ERROR(CheckCoverage(file, header.entries, data_size));
  header.data_begin = data_begin;
  for (SafetensorsEntry& entry : header.entries) {
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  return header;
}

SafetensorsLayout LayOutSafetensors(const std::vector<TensorInfo>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  SafetensorsLayout layout;
  std::string json;
  const auto member = [&json](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(json), "{}{}:{}", json.empty() ? "{" : ",", JsonText(name),
                   value);
  };
  if (!metadata.empty()) {
    std::string pairs;
    for (const auto& [key, value] : metadata) {
      fmt::format_to(std::back_inserter(pairs), "{}{}:{}", pairs.empty() ? "" : ",", JsonText(key),
                     JsonText(value));
    }
    member("__metadata__", fmt::format("{{{}}}", pairs));
  }
  uint64_t offset = 0;
  for (const TensorInfo& info : tensors) {
    const uint64_t end = offset + static_cast<uint64_t>(ByteSize(info).value_or(0));
    member(info.name, fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  NameOf(info.dtype), fmt::join(info.shape, ","), offset, end));
    layout.entries.push_back({info, offset, end});
    offset = end;
  }
  json += json.empty() ? "{}" : "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  layout.header = LittleEndian(uint64_t{json.size()}) + json;
  for (SafetensorsEntry& entry : layout.entries) {
    entry.begin += layout.header.size();
    entry.end += layout.header.size();
  }
  layout.file_size = layout.header.size() + offset;
  return layout;
}

}  // namespace linchpin
