// The weights of a checkpoint as a forward pass reads them: in slabs of rows while
// they are used, so that no matrix is ever whole in memory.
#pragma once

#include <memory>

#include "checkpoint/checkpoint.h"
#include "forward/computation.h"
#include "forward/linear_lens.h"

namespace linchpin {

// `checkpoint` and `lens`, which may be null, must outlive it.
std::shared_ptr<const WeightReader> ReaderOf(const Checkpoint& checkpoint, const LinearLens* lens);

}  // namespace linchpin
