// Holds an artifact against its manifest.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/manifest.h"
#include "artifact/read_back.h"
#include "base/run_context.h"
#include "storage/storage.h"

namespace linchpin {

struct VerifyReport {
  std::vector<std::string> mismatches;  // one line each, empty where all holds
  int files = 0;                        // files whose digest was checked
  std::vector<KeptWeight> kept;         // super weights as read back from the output
};

// Checks that every file of the manifest is there with its size and SHA-256,
// that there is no shard besides, that every tensor the manifest names is in
// the shards with a sound header and its SHA-256 (and no other tensor), and
// reads each super weight back from the output's own bytes.  A mismatch is part
// of the report, not an error; NOT_A_CHECKPOINT where there is no manifest,
// CONFIG_INVALID where it cannot be read.
absl::StatusOr<VerifyReport> VerifyArtifact(const Storage& storage, std::string_view directory,
                                            const RunContext& context);

}  // namespace linchpin
