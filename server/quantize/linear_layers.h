// Which tensors of a model are the linear layers of its blocks, and what the
// others are, by the description of its family rather than by their names.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"

namespace linchpin {

struct TensorRole {
  // Why it is no linear layer of a block: "embedding", "positions", "output head",
  // "norm", "bias", "router"; empty if it is one.
  std::string_view other;
  bool transposed = false;  // stored [in, out]
  bool expert = false;      // of those that tokens are routed to
  // Consumers fuse layers (queries, keys and values; gate and up; the experts of
  // a layer): those of one number are quantized alike or not at all.
  int fused = 0;
};

// By the tensor's name.  A tensor that the family does not know has no entry.
using TensorRoles = std::map<std::string, TensorRole, std::less<>>;

TensorRoles RolesOf(const Checkpoint& checkpoint, const ModelConfig& config);

// What stands before and behind the blocks, by the family's names: of tied ones
// at most one is stored, and Checkpoint::Find gives it for both.
struct OuterTensors {
  std::string embedding;
  std::string output;
};
OuterTensors OuterTensorsOf(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace linchpin
