// Which tensors of a model are the linear layers of its blocks, and what the
// others are: by the description of its family, or, of a family that has none, by
// the names that described families give to theirs.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"

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

// What a norm's gain and bias scale: all that reads it, where that is linear layers of a block
// alone.  Not gemma's gains, which are stored less one, nor what a router reads, too.
struct NormedLayers {
  std::vector<std::string> norm;    // its tensors
  std::vector<std::string> layers;  // the weights
};

// What stands before and behind the blocks, by the family's names: of tied ones
// at most one is stored, and Checkpoint::Find gives it for both.
struct OuterTensors {
  std::string embedding;
  std::string output;
  bool tied = false;  // the config says that they are
};

struct LinearLayers {
  TensorRoles roles;
  std::vector<NormedLayers> normed;     // where the family is known
  std::optional<OuterTensors> outer;    // likewise
  std::string output_head = "lm_head";  // the module's name
  std::string note;                     // what a person should know; empty: nothing
};

// The errors of ModelConfig::Parse, but for a family that is not known.
absl::StatusOr<LinearLayers> LinearLayersOf(const Checkpoint& checkpoint);

}  // namespace linchpin
