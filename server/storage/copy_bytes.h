// Copies a whole file from one store into an output of another.
#pragma once

#include "absl/status/status.h"
#include "base/run_context.h"
#include "storage/storage.h"

namespace linchpin {

// All of `from` into `to`, which was created with its size, checking for
// cancellation on the way.  The errors of ReadAt and WriteAt.
absl::Status CopyBytes(const ReadableFile& from, WritableFile& to, const RunContext& context);

}  // namespace linchpin
