#include "pipeline/memory_estimate.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/status.h"

namespace linchpin {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kLibraries = 256 * kMiB;  // LibTorch, its thread pools and scratch
constexpr uint64_t kHead = 128 * kMiB;       // a slab of the output projection, its logits
constexpr uint64_t kPerThread = 32 * kMiB;   // an encoder's slabs

// "model.layers.12." for a tensor of that layer; empty for any other.
std::string LayerOf(const std::string& name) {
  constexpr std::string_view kLayers = "layers.";
  const size_t at = name.find(kLayers);
  if (at == std::string::npos) return "";
  const size_t end = name.find('.', at + kLayers.size());
  return end == std::string::npos ? "" : name.substr(0, end + 1);
}

}  // namespace

uint64_t EstimateMemory(const Checkpoint& checkpoint, int threads) {
  std::map<std::string, uint64_t> layers;
  uint64_t largest_layer = 0;
  uint64_t largest_tensor = 0;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::string layer = LayerOf(tensor.info.name);
    if (layer.empty()) continue;
    const auto elements = static_cast<uint64_t>(ElementCount(tensor.info.shape).value_or(0));
    uint64_t& total = layers[layer];
    total += elements * sizeof(float);
    largest_layer = std::max(largest_layer, total);
    largest_tensor = std::max(largest_tensor, StoredSize(tensor));
  }
  return kLibraries + kHead + static_cast<uint64_t>(threads) * kPerThread + largest_layer +
         largest_tensor;
}

absl::StatusOr<uint64_t> EstimateMemory(const Storage& storage, std::string_view source,
                                        int threads) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  return EstimateMemory(checkpoint, threads);
}

}  // namespace linchpin
