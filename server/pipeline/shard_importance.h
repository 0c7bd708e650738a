// How much each input channel matters, in the store of a job in parts: measured
// once, before any worker begins, and used by all of them.
//
// A safetensors file of one float32 vector per weight, the mean square of each of
// its input channels, the weights of a shard side by side.  Its header's metadata
// hold the digest of every shard's part, so that a worker reads and checks the
// header and its own part alone; the header's digest stands in the job.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "artifact/manifest.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "pipeline/shard_job.h"
#include "storage/storage.h"
#include "tensor/importance.h"

namespace linchpin {

struct ShardImportance {
  Importance importance;
  CalibrationRecord calibration;
};

// Where it stands.
std::string ImportanceDirectory(const ShardJob& job);

// Writes it beside the job's destination, unless the same stands there already.
// Returns the SHA-256 of its header, in lower-case hex.
absl::StatusOr<std::string> WriteImportance(const Storage& storage, const ShardJob& job,
                                            const Checkpoint& checkpoint,
                                            const ShardImportance& measured,
                                            const RunContext& context);

// Reads the part of shard `index`; of the others, and of all where there is no
// index, which weights there are, each channel as zero.  SOURCE_NOT_FOUND where
// nothing stands; DIGEST_MISMATCH for what is not what the job says.
absl::StatusOr<ShardImportance> ReadImportance(const Storage& storage, const ShardJob& job,
                                               const Checkpoint& checkpoint,
                                               std::optional<int> index);

}  // namespace linchpin
