#include "pipeline/shard_job.h"

#include <utility>
#include <vector>

#include "artifact/artifact_writer.h"
#include "artifact/digest.h"
#include "artifact/manifest.h"
#include "artifact/shard_files.h"
#include "base/status.h"
#include "pipeline/background_digest.h"
#include "pipeline/job_key.h"
#include "pipeline/prepare.h"
#include "pipeline/shard_store.h"

namespace linchpin {
namespace {

absl::StatusOr<std::string> SamplesOf(const ShardFiles::File& file) {
  return SampleDigest(file.size, [&file](uint64_t at, absl::Span<std::byte> out) {
    return file.file->ReadAt(at, out);
  });
}

absl::StatusOr<ShardResult> WriteShard(const OpenShardJob& open, const ShardJob& job, int index,
                                       OutputDirectory& output, const RunContext& context) {
  const Shard& shard = open.checkpoint().shards()[static_cast<size_t>(index)];
  BackgroundDigest source(context,
                          [&](const RunContext& silent) -> absl::StatusOr<std::vector<FileRecord>> {
                            if (!job.source_digest)
                              return std::vector<FileRecord>{{shard.name, shard.size, ""}};
                            return DigestShard(open.checkpoint(), index, silent);
                          });
  const Plan part = open.PartOf(index);
  ASSIGN_OR_RETURN(const ShardFiles files,
                   ShardFiles::CreateShard(open.checkpoint(), index, part, output));
  ASSIGN_OR_RETURN(ArtifactRecord artifact,
                   WriteWeights(open.checkpoint(), part, files, output, context,
                                open.measured ? &open.measured->importance : nullptr));
  ASSIGN_OR_RETURN(const std::string samples, SamplesOf(files.files().front()));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source_files, source.Take());
  RETURN_IF_ERROR(open.checkpoint().CheckUnchanged());
  Json manifest = BuildManifest({.source_name = source_files.front().name,
                                 .source_files = source_files,
                                 .plan = &part,
                                 .artifact = &artifact,
                                 .kept = artifact.kept});
  manifest[std::string(kJobKeyField)] = job.key;
  manifest[std::string(kSamplesField)] = samples;
  manifest[std::string(kSourceVersionField)] = open.checkpoint().Version(index);
  RETURN_IF_ERROR(WriteText(output, kManifestName, SerializeManifest(manifest)));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output.Commit());
  return ShardResult{.bytes_in = part.bytes_in(),
                     .bytes_out = part.bytes_out(),
                     .sha256 = artifact.files.front().sha256};
}

}  // namespace

absl::StatusOr<PreparedJob> PrepareCompression(const Storage& storage, const ShardJob& job,
                                               const CompressOptions& options,
                                               const RunContext& context) {
  RETURN_IF_ERROR(CheckSkipped(options));
  ASSIGN_OR_RETURN(const auto source, SourceOf(storage, job));
  const Checkpoint& checkpoint = *source;
  RETURN_IF_ERROR(CheckParts(checkpoint, options.quantize));
  // What the options make impossible is refused before the long part.
  RETURN_IF_ERROR(MakePlan(checkpoint, options.quantize, {}).status());
  ASSIGN_OR_RETURN(Prepared prepared, Prepare(checkpoint, options, context));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  PreparedJob result{.detection = std::move(prepared.detection)};
  if (!prepared.calibration) return result;
  const ShardImportance measured{std::move(prepared.importance), *prepared.calibration};
  ASSIGN_OR_RETURN(result.importance_sha256,
                   WriteImportance(storage, job, checkpoint, measured, context));
  return result;
}

absl::StatusOr<ShardResult> CompressShard(const Storage& storage, const ShardJob& job, int index,
                                          const RunContext& context) {
  if (const auto done = ReadShard(storage, job, index); done.ok()) {
    ASSIGN_OR_RETURN(const auto source, SourceOf(storage, job));
    const absl::Status same = CheckSource(*source, index, *done, context);
    if (same.ok()) return ShardResult{true, done->bytes_in, done->bytes_out, done->file.sha256};
    if (ReasonOf(same) != Reason::kSourceChanged) return same;
  }
  ASSIGN_OR_RETURN(const OpenShardJob open, OpenShardJob::Open(storage, job, index));
  // Whatever stands there is not a finished shard of this job.
  ASSIGN_OR_RETURN(const auto output,
                   storage.CreateDirectory(ShardDirectory(job, index), /*overwrite=*/true));
  return WriteShard(open, job, index, *output, context);
}

}  // namespace linchpin
