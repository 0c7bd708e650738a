// Walks a matrix in slabs of rows, so that it is never whole in memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"
#include "base/run_context.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace linchpin {

// Calls use(first_row, slab), a `const Matrix&`, for every slab, begun in order, on as
// many threads as the context says: of several, `use` must bear to be called at once.
template <typename Use>
absl::Status ForEachSlab(const Checkpoint& checkpoint, const StoredTensor& tensor,
                         const RunContext& context, const Use& use) {
  constexpr int64_t kSlabElements = 1 << 17;  // stay in a core's cache until they are used
  const int64_t rows = tensor.info.shape[0];
  const int64_t step = std::max<int64_t>(1, kSlabElements / tensor.info.shape[1]);
  const auto slabs = static_cast<size_t>((rows + step - 1) / step);
  return ForEachIndex(context.threads, slabs, [&](size_t index) -> absl::Status {
    RETURN_IF_ERROR(context.Check());
    const int64_t first = static_cast<int64_t>(index) * step;
    thread_local Matrix memory;  // the same for every slab of a thread
    memory.rows = std::min(step, rows - first);
    memory.columns = tensor.info.shape[1];
    memory.data.resize(static_cast<size_t>(memory.rows * memory.columns));
    RETURN_IF_ERROR(checkpoint.ReadRows(tensor, first, memory.rows, absl::MakeSpan(memory.data)));
    const Matrix& slab = memory;
    use(first, slab);
    return absl::OkStatus();
  });
}

// The same on this thread alone, one slab after the other.
template <typename Use>
absl::Status ForEachSlabInTurn(const Checkpoint& checkpoint, const StoredTensor& tensor,
                               const Use& use) {
  return ForEachSlab(checkpoint, tensor, RunContext{}, use);
}

}  // namespace linchpin
