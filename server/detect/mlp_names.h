// Finds the MLPs of a checkpoint by the names of their tensors, whatever its family.
#pragma once

#include <vector>

#include "checkpoint/checkpoint.h"

namespace linchpin {

// The matrices of one MLP; null where there is none.
struct NamedMlp {
  int layer = 0;
  int expert = -1;  // -1: the layer's one MLP, or the expert that every token goes through
  const StoredTensor* gate = nullptr;
  const StoredTensor* up = nullptr;
  const StoredTensor* gate_up = nullptr;  // in place of the two: the gate's rows, then up's
  const StoredTensor* down = nullptr;
  bool transposed = false;  // all are stored [in, out]
};

// Those whose tensors are called as in some known family, by the order of the
// checkpoint, and fit together in shape.  Of several groups of layers, a vision
// tower's among them, the largest.
std::vector<NamedMlp> FindMlps(const Checkpoint& checkpoint);

}  // namespace linchpin
