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

// And the version of the source's file that it was made from (ReadableFile::Version).
inline constexpr std::string_view kSourceVersionField = "source_version";

// What stands at `pointer`, "/a/0/b"; null where nothing does.
Json At(const Json& json, const char* pointer);

// What cannot be written in parts: FEATURE_UNSUPPORTED, saying why.
absl::Status CheckParts(const Checkpoint& checkpoint, const QuantizeOptions& options);

// What the job's preparation found; null where detection is off.  OPTION_INVALID.
absl::StatusOr<Json> DetectionOf(const ShardJob& job);

// The source of a job, opened unless the job has it open.  The errors of
// Checkpoint::Open.
absl::StatusOr<std::shared_ptr<const Checkpoint>> SourceOf(const Storage& storage,
                                                           const ShardJob& job);

// A job as every call sees it: source, detection, what was measured, plan.
struct OpenShardJob {
  std::shared_ptr<const Checkpoint> source;
  Json detection;  // null where it is off
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
  FileRecord source;           // the file that it was made from
  std::string source_version;  // of that
  FileRecord file;             // its own
  std::string samples;         // SampleDigest of that
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  std::vector<KeptWeight> kept;
  Json tensors;  // as in the manifest of the whole
};

// SOURCE_NOT_FOUND if there is none; another error for one that is not this job's,
// or not whole.
absl::StatusOr<FinishedShard> ReadShard(const Storage& storage, const ShardJob& job, int index);

// SOURCE_CHANGED unless `done`, of shard `index`, was made from the bytes that the
// source has now.  Reads them where the version of the file does not tell, and a digest
// was taken.
absl::Status CheckSource(const Checkpoint& source, int index, const FinishedShard& done,
                         const RunContext& context);

}  // namespace linchpin
