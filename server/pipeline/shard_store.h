// What the calls of a job in parts find and leave in the store.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "artifact/read_back.h"
#include "checkpoint/checkpoint.h"
#include "format/json.h"
#include "pipeline/shard_importance.h"
#include "pipeline/shard_job.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

inline constexpr uint64_t kMaxManifestBytes = uint64_t{256} << 20;

// Of a shard's manifest, beside what any manifest has.
inline constexpr std::string_view kJobKeyField = "job_key";

// And the digest of samples of its file (SampleDigest).
inline constexpr std::string_view kSamplesField = "samples_sha256";

// What stands at `pointer`, "/a/0/b"; null where nothing does.
Json At(const Json& json, const char* pointer);

// What cannot be written in parts: FEATURE_UNSUPPORTED, saying why.
absl::Status CheckParts(const Checkpoint& checkpoint, const QuantizeOptions& options);

// The source of a job, opened unless the job has it open.  The errors of
// Checkpoint::Open.
absl::StatusOr<std::shared_ptr<const Checkpoint>> SourceOf(const Storage& storage,
                                                           const ShardJob& job);

// A job as every call sees it: source, detection, what was measured, plan.
struct OpenShardJob {
  std::shared_ptr<const Checkpoint> source;
  Json detection;
  std::optional<ShardImportance> measured;
  Plan plan;

  // For shard `index`, or for the whole.  The errors of Checkpoint::Open, MakePlan
  // and ReadImportance; OPTION_INVALID for an index that there is not, and for a
  // detection that is none.
  static absl::StatusOr<OpenShardJob> Open(const Storage& storage, const ShardJob& job,
                                           std::optional<int> index);

  const Checkpoint& checkpoint() const { return *source; }
  int shards() const { return static_cast<int>(source->shards().size()); }
  // The name of a shard's file in the output.
  std::string OutputName(int index) const;
  // The plan's rows and super weights of one shard.
  Plan PartOf(int index) const;
};

// A shard that stands in the store, as its manifest tells of it.
struct FinishedShard {
  FileRecord source;    // the file that it was made from
  FileRecord file;      // its own
  std::string samples;  // SampleDigest of that
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  std::vector<KeptWeight> kept;
  Json tensors;  // as in the manifest of the whole
};

// SOURCE_NOT_FOUND if there is none; another error for one that is not this job's,
// or not whole.
absl::StatusOr<FinishedShard> ReadShard(const Storage& storage, const ShardJob& job, int index);

}  // namespace linchpin
