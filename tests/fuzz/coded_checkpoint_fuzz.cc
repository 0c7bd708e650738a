// The input is a config.json and, after a NUL byte, the safetensors file of a model in
// compressed-tensors: its weights as they are decoded.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "checkpoint/checkpoint.h"
#include "format/safetensors.h"
#include "storage/memory_storage.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/safetensors_file.h"

namespace {

using linchpin::Checkpoint;
using linchpin::StoredTensor;

// The shapes of tensors without elements are not bounded by the file, and some sums over
// them overflow (Blocks of weight_scales.cc, Checkpoint::UnpackedShape): not looked at.
constexpr int64_t kLongestDimension = int64_t{1} << 40;

bool HasSaneShapes(std::string_view file) {
  const auto* bytes = reinterpret_cast<const std::byte*>(file.data());
  const auto length = linchpin::SafetensorsHeaderLength("fuzz", {bytes, file.size()}, file.size());
  if (!length.ok()) return false;
  const auto header =
      linchpin::ParseSafetensorsHeader("fuzz", file.substr(8, *length), file.size());
  if (!header.ok()) return false;
  for (const auto& entry : header->entries) {
    for (const int64_t dimension : entry.info.shape) {
      if (dimension > kLongestDimension) return false;
    }
  }
  return true;
}

// A row is the same read alone and among all.
void ReadTwice(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  const int64_t rows = tensor.info.shape[0];
  const auto all = checkpoint.ReadRows(tensor, 0, rows);
  INVARIANT(all.ok() && all->columns == tensor.info.shape[1]);
  const auto last = checkpoint.ReadRows(tensor, rows - 1, 1);
  INVARIANT(last.ok());
  const auto same = [](float a, float b) { return a == b || (a != a && b != b); };
  INVARIANT(std::equal(last->data.begin(), last->data.end(), all->data.end() - all->columns, same));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = PartsOf<2>(TextOf(data, size));
  if (!HasSaneShapes(parts[1])) return 0;
  linchpin::MemoryStorage storage;
  storage.Put("/m/config.json", linchpin::ToBytes(parts[0]));
  storage.Put("/m/model.safetensors", linchpin::ToBytes(parts[1]));
  auto checkpoint = Checkpoint::Open(storage, "/m");
  if (!checkpoint.ok()) return 0;
  const bool unpacked = checkpoint->Unpack().ok();
  for (const StoredTensor& tensor : checkpoint->tensors()) {
    const bool matrix = tensor.info.shape.size() == 2 && tensor.info.shape[0] > 0;
    if (unpacked && matrix && checkpoint->CheckReadable(tensor).ok()) {
      ReadTwice(*checkpoint, tensor);
    }
  }
  return 0;
}
