// The finished shards of a job, as its last call finds and leaves them.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "artifact/read_back.h"
#include "base/run_context.h"
#include "pipeline/shard_job.h"
#include "pipeline/shard_store.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// How many small requests are sent at once: a store may take its time for each.
inline constexpr int kSideBySide = 8;

// All of the job's `count`; SOURCE_NOT_FOUND with the indices of those that are
// not there, or not whole.
absl::StatusOr<std::vector<FinishedShard>> ReadParts(const Storage& storage, const ShardJob& job,
                                                     int count, const RunContext& context);

// Puts their files into the output.  DIGEST_MISMATCH where samples are not those
// that were taken when a file was written.
absl::Status TakeParts(const Storage& storage, const ShardJob& job,
                       const std::vector<FinishedShard>& parts, OutputDirectory& output,
                       const RunContext& context);

// The super weights of all, in the plan's order.
std::vector<KeptWeight> KeptOf(const Plan& plan, const std::vector<FinishedShard>& parts);

// Removes what the job left beside its destination.  What cannot be removed, or
// was removed by another call, stays or is gone: neither harms.
void RemoveParts(const Storage& storage, const ShardJob& job, int count);

}  // namespace linchpin
