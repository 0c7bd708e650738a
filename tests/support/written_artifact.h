// Makes an artifact in memory from a tiny checkpoint: what a pipeline does
// around quantize/ and artifact/, without a detection.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "artifact/manifest.h"
#include "base/run_context.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {

// A detection with numbers in every field.
Detection SomeDetection();

// Compresses `source` into `destination` of the same storage, manifest included.  Of a layer
// that `importance` lacks nothing is known: it gets the rule that does without.
absl::Status WriteArtifact(MemoryStorage& storage, const std::string& source,
                           const std::string& destination, const QuantizeOptions& options,
                           const std::vector<PinnedWeight>& super_weights,
                           const RunContext& context = {}, Importance importance = {});

}  // namespace linchpin
