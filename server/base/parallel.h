// A loop over independent pieces of work on several threads.
#pragma once

#include <cstddef>
#include <functional>

#include "absl/status/status.h"

namespace linchpin {

// Calls work(0) .. work(count - 1) on at most `threads` threads, the caller's
// among them, each index once and begun in order.  Returns the failure of the
// lowest index that fails, whatever the threads do: indexes below it are always
// finished, of those above it none is begun any more.  An exception in `work`
// becomes INTERNAL.
absl::Status ForEachIndex(int threads, size_t count,
                          const std::function<absl::Status(size_t)>& work);

}  // namespace linchpin
