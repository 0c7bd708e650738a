// What ShardFiles does for a GGUF output.
#include <algorithm>
#include <array>
#include <utility>

#include "artifact/shard_files.h"
#include "base/status.h"
#include "format/gguf_layout.h"

namespace linchpin {
namespace {

constexpr uint32_t kQuantizationVersion = 2;
constexpr int64_t kCopyBytes = int64_t{1} << 20;

// llama.cpp's number for a file whose weights are mostly of a type.
struct FileType {
  Scheme scheme;
  uint32_t number;
};
constexpr auto kFileTypes = std::to_array<FileType>({{Scheme::kF16, 1},
                                                     {Scheme::kQ4_0, 2},
                                                     {Scheme::kQ4_1, 3},
                                                     {Scheme::kQ8_0, 7},
                                                     {Scheme::kQ5_0, 8},
                                                     {Scheme::kQ5_1, 9},
                                                     {Scheme::kQ4_K, 14},
                                                     {Scheme::kQ5_K, 16},
                                                     {Scheme::kQ6_K, 18},
                                                     {Scheme::kBF16, 32}});

uint32_t FileTypeOf(Scheme scheme) {
  const auto* row = std::find_if(kFileTypes.begin(), kFileTypes.end(),
                                 [scheme](const FileType& type) { return type.scheme == scheme; });
  return row == kFileTypes.end() ? 0 : row->number;
}

// Says how the pattern was quantized, or into how many files it was split.
bool IsOfThePattern(std::string_view key) {
  return key == "general.file_type" || key == "general.quantization_version" ||
         key.starts_with("quantize.") || key.starts_with("split.");
}

absl::Status CopySlot(const GgufTemplate& pattern, const GgufSlot& slot, uint64_t begin,
                      WritableFile& file) {
  const auto size = static_cast<int64_t>(slot.tensor.end - slot.tensor.begin);
  std::vector<std::byte> bytes(static_cast<size_t>(std::min(size, kCopyBytes)));
  for (int64_t done = 0; done < size; done += kCopyBytes) {
    const auto part =
        absl::MakeSpan(bytes).first(static_cast<size_t>(std::min(kCopyBytes, size - done)));
    RETURN_IF_ERROR(pattern.ReadBytes(slot, static_cast<uint64_t>(done), part));
    RETURN_IF_ERROR(file.WriteAt(begin + static_cast<uint64_t>(done), part));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ShardFiles> ShardFiles::CreateGguf(const GgufTemplate& pattern, const Plan& plan,
                                                  OutputDirectory& output) {
  const std::string version = GgufValueBytes(kQuantizationVersion);
  const std::string type = GgufValueBytes(FileTypeOf(plan.options.scheme));
  std::vector<GgufKeyValue> pairs(pattern.pairs().begin(), pattern.pairs().end());
  std::erase_if(pairs, [](const GgufKeyValue& pair) { return IsOfThePattern(pair.key); });
  pairs.push_back({"general.quantization_version", version});
  pairs.push_back({"general.file_type", type});

  std::vector<GgufTensor> tensors;
  size_t row = 0;  // the first of a slot's parts
  for (const GgufSlot& slot : pattern.slots()) {
    GgufTensor& tensor = tensors.emplace_back(slot.tensor);
    if (!slot.parts.empty()) tensor.type = plan.rows[row].gguf->type;
    row += slot.parts.size();
  }
  ASSIGN_OR_RETURN(const GgufLayout layout, LayOutGguf(kGgufName, pairs, std::move(tensors)));

  ShardFiles result;
  File& file = result.files_.emplace_back();
  file.name = kGgufName;
  file.size = layout.file_size;
  ASSIGN_OR_RETURN(file.file, output.CreateFile(file.name, file.size));
  RETURN_IF_ERROR(file.file->WriteAt(
      0, {reinterpret_cast<const std::byte*>(layout.header.data()), layout.header.size()}));
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    const GgufTensor& tensor = layout.tensors[i];
    const size_t parts = pattern.slots()[i].parts.size();
    if (parts == 0) {
      RETURN_IF_ERROR(CopySlot(pattern, pattern.slots()[i], tensor.begin, *file.file));
    }
    for (size_t part = 0; part < parts; ++part) {
      const uint64_t size = (tensor.end - tensor.begin) / parts;
      result.slots_.push_back({{file.file.get(), tensor.begin + part * size, size}});
    }
  }
  return result;
}

}  // namespace linchpin
