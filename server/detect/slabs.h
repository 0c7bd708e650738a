// Walks a matrix in slabs of rows, so that it is never whole in memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace linchpin {

// Calls use(first_row, slab), a `const Matrix&`, from the first row to the last.
template <typename Use>
absl::Status ForEachSlab(const Checkpoint& checkpoint, const StoredTensor& tensor, const Use& use) {
  constexpr int64_t kSlabElements = 1 << 20;
  const int64_t rows = tensor.info.shape[0];
  const int64_t step = std::max<int64_t>(1, kSlabElements / tensor.info.shape[1]);
  for (int64_t first = 0; first < rows; first += step) {
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(tensor, first, std::min(step, rows - first)));
    use(first, slab);
  }
  return absl::OkStatus();
}

}  // namespace linchpin
