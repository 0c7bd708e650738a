// What the calls of a job in parts find and leave in the store.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "format/json.h"
#include "pipeline/shard_job.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// Of a shard's manifest, beside what any manifest has.
inline constexpr std::string_view kJobKeyField = "job_key";

// A job as every call sees it, whoever comes first: source, detection, plan.
struct OpenShardJob {
  Checkpoint checkpoint;
  Json detection;
  Plan plan;

  // The errors of Checkpoint::Open and MakePlan; OPTION_INVALID for a detection
  // that is none.
  static absl::StatusOr<OpenShardJob> Open(const Storage& storage, const ShardJob& job);

  int shards() const { return static_cast<int>(checkpoint.shards().size()); }
  // The name of a shard's file in the output.
  std::string OutputName(int index) const;
  // The plan's rows and super weights of one shard.
  Plan PartOf(int index) const;
};

// The manifest of a shard that stands in the store.  SOURCE_NOT_FOUND if there
// is none; another error for one that is not this job's, or not whole.
absl::StatusOr<Json> ReadShard(const Storage& storage, const ShardJob& job, int index);

}  // namespace linchpin
