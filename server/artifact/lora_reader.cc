// What an adapter that lora_adapter.h describes adds to a weight.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "artifact/lora_adapter.h"
#include "base/status.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_template.h"
#include "fmt/format.h"
#include "format/safetensors.h"

namespace linchpin {
namespace {

constexpr int64_t kMaxRank = 4096;

// A factor in the adapter's file: float32, row-major.
struct StoredFactor {
  std::vector<int64_t> shape;
  uint64_t begin = 0;
};

// Tensors of either kind of file, by name.
struct Adapter {
  std::unique_ptr<ReadableFile> file;
  std::string path;
  std::map<std::string, StoredFactor> factors;

  absl::StatusOr<float> At(const StoredFactor& factor, int64_t row, int64_t column) const {
    float value = 0;
    RETURN_IF_ERROR(file->ReadAt(
        factor.begin + static_cast<uint64_t>(row * factor.shape[1] + column) * sizeof(float),
        absl::MakeSpan(reinterpret_cast<std::byte*>(&value), sizeof(float))));
    return value;
  }
};

absl::StatusOr<Adapter> OpenPeft(const Storage& storage, std::string_view directory) {
  Adapter adapter;
  adapter.path = fmt::format("{}/{}/adapter_model.safetensors", directory, kPeftDirectory);
  ASSIGN_OR_RETURN(adapter.file, storage.Open(adapter.path));
  std::vector<std::byte> prefix(std::min<uint64_t>(adapter.file->size(), 32));
  RETURN_IF_ERROR(adapter.file->ReadAt(0, absl::MakeSpan(prefix)));
  ASSIGN_OR_RETURN(const uint64_t length,
                   SafetensorsHeaderLength(adapter.path, prefix, adapter.file->size()));
  std::string json(length, '\0');
  RETURN_IF_ERROR(
      adapter.file->ReadAt(kSafetensorsPrefixBytes,
                           absl::MakeSpan(reinterpret_cast<std::byte*>(json.data()), json.size())));
  ASSIGN_OR_RETURN(const SafetensorsHeader header,
                   ParseSafetensorsHeader(adapter.path, json, adapter.file->size()));
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.info.dtype != DType::kF32) continue;
    adapter.factors[entry.info.name] = {entry.info.shape, entry.begin};
  }
  return adapter;
}

absl::StatusOr<Adapter> OpenGguf(const Storage& storage, std::string_view directory) {
  Adapter adapter;
  adapter.path = fmt::format("{}/{}", directory, kGgufAdapterName);
  ASSIGN_OR_RETURN(adapter.file, storage.Open(adapter.path));
  ASSIGN_OR_RETURN(const GgufFile gguf, ReadGgufFile(*adapter.file, adapter.path));
  for (const GgufTensor& tensor : gguf.header.tensors) {
    if (tensor.type->dtype != DType::kF32) continue;
    adapter.factors[tensor.name] = {tensor.shape, tensor.begin};
  }
  return adapter;
}

// Names of the two factors of a tensor: down, up.
absl::StatusOr<std::pair<std::string, std::string>> FactorNames(const Checkpoint& output,
                                                                const std::string& tensor) {
  if (!output.is_gguf()) {
    constexpr std::string_view kWeight = ".weight";
    std::string module = tensor;
    if (module.ends_with(kWeight)) module.resize(module.size() - kWeight.size());
    return std::pair(fmt::format("base_model.model.{}.lora_A.weight", module),
                     fmt::format("base_model.model.{}.lora_B.weight", module));
  }
  ASSIGN_OR_RETURN(const GgufTemplate names, GgufTemplate::Open(output));
  for (const GgufSlot& slot : names.slots()) {
    if (slot.parts.size() != 1 || slot.parts[0].info.name != tensor) continue;
    return std::pair(slot.tensor.name + ".lora_a", slot.tensor.name + ".lora_b");
  }
  return Error(Reason::kTensorMissing, output.path(), fmt::format("tensor {} is missing", tensor));
}

}  // namespace

absl::StatusOr<float> ReadAdapter(const Storage& storage, std::string_view directory,
                                  const Checkpoint& output, const WeightPosition& position) {
  ASSIGN_OR_RETURN(const Adapter adapter,
                   output.is_gguf() ? OpenGguf(storage, directory) : OpenPeft(storage, directory));
  ASSIGN_OR_RETURN(const auto names, FactorNames(output, position.tensor));
  const auto down = adapter.factors.find(names.first);
  const auto up = adapter.factors.find(names.second);
  if (down == adapter.factors.end() || up == adapter.factors.end()) {
    return Error(Reason::kTensorMissing, adapter.path,
                 fmt::format("it has nothing for {}", position.tensor));
  }
  const std::vector<int64_t>& a = down->second.shape;
  const std::vector<int64_t>& b = up->second.shape;
  if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] > kMaxRank ||
      position.column >= a[1] || position.row >= b[0]) {
    return Error(
        Reason::kTensorShapeInvalid, adapter.path,
        fmt::format("{} and {} are no factors of {}", ShapeText(b), ShapeText(a), position.tensor));
  }
  float sum = 0;
  for (int64_t rank = 0; rank < a[0]; ++rank) {
    ASSIGN_OR_RETURN(const float left, adapter.At(up->second, position.row, rank));
    ASSIGN_OR_RETURN(const float right, adapter.At(down->second, rank, position.column));
    sum += left * right;
  }
  return sum;
}

}  // namespace linchpin
