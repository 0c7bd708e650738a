#include "pipeline/shard_job.h"

#include <memory>
#include <utility>

#include "artifact/artifact_writer.h"
#include "artifact/digest.h"
#include "artifact/manifest.h"
#include "artifact/partial_output.h"
#include "base/status.h"
#include "fmt/format.h"
#include "pipeline/shard_store.h"

namespace linchpin {
namespace {

ShardResult ResultOf(const Json& manifest, bool skipped) {
  const Json& output = manifest["output"];
  return {.skipped = skipped,
          .bytes_in = output["bytes_in"].get<uint64_t>(),
          .bytes_out = output["bytes_out"].get<uint64_t>(),
          .sha256 = output["files"][0]["sha256"].get<std::string>()};
}

// Digest of the source's file that a shard is made from.
absl::StatusOr<FileRecord> DigestShard(const Checkpoint& checkpoint, int index,
                                       const RunContext& context) {
  const Shard& shard = checkpoint.shards()[index];
  ASSIGN_OR_RETURN(const std::shared_ptr<ReadableFile> file, checkpoint.OpenFile(shard.name));
  const ReadRange read = [file](uint64_t at, absl::Span<std::byte> out) {
    return file->ReadAt(at, out);
  };
  Sha256 digest;
  RETURN_IF_ERROR(UpdateFrom(read, 0, shard.size, context, digest));
  return FileRecord{shard.name, shard.size, digest.Hex()};
}

absl::StatusOr<Json> WriteShard(const OpenShardJob& open, const ShardJob& job, int index,
                                OutputDirectory& output, const RunContext& context) {
  const std::string name = open.OutputName(index);
  const Plan part = open.PartOf(index);
  PartialOutput partial(output, [&](std::string_view file) { return file == name; });
  ASSIGN_OR_RETURN(ArtifactRecord artifact, WriteArtifact(open.checkpoint, part, partial, context));
  std::erase_if(artifact.files, [&](const FileRecord& file) { return file.name != name; });
  ASSIGN_OR_RETURN(const FileRecord source, DigestShard(open.checkpoint, index, context));
  const Detection none;
  Json manifest = BuildManifest({.source_name = source.name,
                                 .source_files = {source},
                                 .plan = &part,
                                 .detection = &none,
                                 .artifact = &artifact,
                                 .kept = artifact.kept});
  manifest[std::string(kJobKeyField)] = job.key;
  RETURN_IF_ERROR(WriteText(output, kManifestName, SerializeManifest(manifest)));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output.Commit());
  return manifest;
}

}  // namespace

absl::StatusOr<ShardResult> CompressShard(const Storage& storage, const ShardJob& job, int index,
                                          const RunContext& context) {
  if (const auto done = ReadShard(storage, job, index); done.ok()) return ResultOf(*done, true);
  ASSIGN_OR_RETURN(const OpenShardJob open, OpenShardJob::Open(storage, job));
  if (index < 0 || index >= open.shards()) {
    return Error(Reason::kOptionInvalid, "index", fmt::format("it is {}", index),
                 fmt::format("the source has shards 0 to {}", open.shards() - 1));
  }
  // Whatever stands there is not a finished shard of this job.
  ASSIGN_OR_RETURN(const auto output,
                   storage.CreateDirectory(ShardDirectory(job, index), /*overwrite=*/true));
  ASSIGN_OR_RETURN(const Json manifest, WriteShard(open, job, index, *output, context));
  return ResultOf(manifest, false);
}

}  // namespace linchpin
