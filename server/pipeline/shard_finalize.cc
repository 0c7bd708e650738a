// The last call of a job in parts.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "artifact/artifact_writer.h"
#include "artifact/digest.h"
#include "artifact/kept_weights.h"
#include "artifact/manifest.h"
#include "artifact/manifest_claims.h"
#include "artifact/side_files.h"
#include "base/parallel.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/shard_index.h"
#include "pipeline/shard_job.h"
#include "pipeline/shard_parts.h"
#include "pipeline/shard_store.h"

namespace linchpin {
namespace {

ShardIndex IndexOf(const OpenShardJob& open) {
  ShardIndex index{.total_size = open.plan.bytes_out()};
  for (const PlanRow& row : open.plan.rows) {
    for (const TensorInfo& info : row.outputs) {
      index.weight_map[info.name] = open.OutputName(row.source.shard);
    }
  }
  return index;
}

// What is written beside the shards, and the record of the whole artifact but for
// its tensors, which the shards' manifests tell of.
absl::StatusOr<ArtifactRecord> WriteRest(const OpenShardJob& open,
                                         const std::vector<FinishedShard>& parts,
                                         OutputDirectory& output, const RunContext& context) {
  ArtifactRecord record;
  record.kept = KeptOf(open.plan, parts);
  SideFiles side(output);
  RETURN_IF_ERROR(
      WriteSideFiles(open.checkpoint(), open.plan, IndexOf(open), context, side, record.notes));
  if (open.plan.options.preserve == Preserve::kLora) {
    RETURN_IF_ERROR(WriteAdapter(open.plan, nullptr, record.kept, side));
  }
  ASSIGN_OR_RETURN(record.files, DigestSideFiles(side.files(), context));
  for (const FinishedShard& part : parts) record.files.push_back(part.file);
  std::sort(record.files.begin(), record.files.end(), ByName);
  return record;
}

// Every shard was made from the bytes that the source has now.
absl::Status CheckSources(const Checkpoint& checkpoint, const std::vector<FinishedShard>& parts,
                          const RunContext& context) {
  return ForEachIndex(context.threads, parts.size(), [&](size_t i) {
    return CheckSource(checkpoint, static_cast<int>(i), parts[i], context);
  });
}

absl::StatusOr<std::vector<FileRecord>> SourceFiles(const Checkpoint& checkpoint,
                                                    const ShardJob& job,
                                                    const std::vector<FinishedShard>& parts,
                                                    const RunContext& context) {
  if (!job.source_digest) return ListCheckpoint(checkpoint);
  ASSIGN_OR_RETURN(std::vector<FileRecord> files, DigestBesideShards(checkpoint, context));
  for (const FinishedShard& part : parts) {
    files.push_back(part.source);
  }
  std::sort(files.begin(), files.end(), ByName);
  return files;
}

// The manifest of the whole; its tensors from those of the parts.
Json ManifestOf(const OpenShardJob& open, const ShardJob& job,
                const std::vector<FinishedShard>& parts, const std::vector<FileRecord>& source,
                const ArtifactRecord& artifact) {
  Json whole = BuildManifest(
      {.source_name = LastComponent(job.source),
       .source_files = source,
       .plan = &open.plan,
       .artifact = &artifact,
       .kept = artifact.kept,
       .calibration = open.measured ? std::optional(open.measured->calibration) : std::nullopt});
  whole["detection"] = open.detection;
  whole["tensors"] = Json::array();
  for (const FinishedShard& part : parts) {
    for (const Json& tensor : part.tensors) whole["tensors"].push_back(tensor);
  }
  return whole;
}

CompressResult ResultOf(const OpenShardJob& open, std::string manifest,
                        std::vector<KeptWeight> kept) {
  CompressResult result;
  result.manifest = std::move(manifest);
  result.manifest_sha256 = Sha256Hex(result.manifest);
  result.kept = std::move(kept);
  result.bytes_in = open.plan.bytes_in();
  result.bytes_out = open.plan.bytes_out();
  result.notes = open.plan.notes;
  return result;
}

// True where `manifest`, which stands at the destination, is of this job: the same
// source, options and detection.
bool IsOf(const ShardJob& job, const Checkpoint& checkpoint, const Json& manifest) {
  const Plan plan{.options = job.quantize};
  const ArtifactRecord nothing;
  const Json expected = BuildManifest(
      {.source_name = LastComponent(job.source), .plan = &plan, .artifact = &nothing});
  const auto detection = DetectionOf(job);
  if (!detection.ok() || At(manifest, "/detection") != *detection ||
      At(manifest, "/tool") != expected["tool"] ||
      At(manifest, "/options") != expected["options"] ||
      At(manifest, "/source/name") != expected["source"]["name"]) {
    return false;
  }
  const Json files = At(manifest, "/source/files");
  return std::all_of(checkpoint.shards().begin(), checkpoint.shards().end(), [&](const Shard& s) {
    return std::any_of(files.begin(), files.end(), [&](const Json& file) {
      return At(file, "/name") == s.name && At(file, "/size") == s.size;
    });
  });
}

// What another call of the same job has finished: SOURCE_NOT_FOUND if none has.
absl::StatusOr<CompressResult> FinishedBefore(const Storage& storage, const ShardJob& job) {
  const std::string path = fmt::format("{}/{}", job.destination, kManifestName);
  ASSIGN_OR_RETURN(std::string text, ReadText(storage, path, kMaxManifestBytes));
  ASSIGN_OR_RETURN(const ManifestClaims claims, ReadManifestClaims(path, text));
  ASSIGN_OR_RETURN(const Json manifest, ParseJson(path, text, Reason::kConfigInvalid));
  ASSIGN_OR_RETURN(const auto source, SourceOf(storage, job));
  if (!IsOf(job, *source, manifest)) {
    return Error(Reason::kSourceNotFound, path, "it is of another job");
  }
  CompressResult result{.kept = claims.kept};
  const Json output = At(manifest, "/output");
  if (At(output, "/bytes_in").is_number_unsigned() &&
      At(output, "/bytes_out").is_number_unsigned()) {
    result.bytes_in = output["bytes_in"].get<uint64_t>();
    result.bytes_out = output["bytes_out"].get<uint64_t>();
  }
  // It may have been killed before all was removed.
  RemoveParts(storage, job, static_cast<int>(source->shards().size()));
  result.manifest_sha256 = Sha256Hex(text);
  result.manifest = std::move(text);
  return result;
}

absl::StatusOr<CompressResult> Finalize(const Storage& storage, const ShardJob& job, bool overwrite,
                                        const RunContext& context) {
  ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(job.destination, overwrite));
  ASSIGN_OR_RETURN(const OpenShardJob open, OpenShardJob::Open(storage, job, std::nullopt));
  ASSIGN_OR_RETURN(const std::vector<FinishedShard> parts,
                   ReadParts(storage, job, open.shards(), context));
  RETURN_IF_ERROR(CheckSources(open.checkpoint(), parts, context));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source,
                   SourceFiles(open.checkpoint(), job, parts, context));
  RETURN_IF_ERROR(TakeParts(storage, job, parts, *output, context));
  ASSIGN_OR_RETURN(const ArtifactRecord artifact, WriteRest(open, parts, *output, context));
  std::string manifest = SerializeManifest(ManifestOf(open, job, parts, source, artifact));
  RETURN_IF_ERROR(WriteText(*output, kManifestName, manifest));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output->Commit());
  RemoveParts(storage, job, open.shards());
  return ResultOf(open, std::move(manifest), artifact.kept);
}

}  // namespace

absl::StatusOr<CompressResult> FinalizeCompression(const Storage& storage, const ShardJob& job,
                                                   bool overwrite, const RunContext& context) {
  absl::StatusOr<CompressResult> result = Finalize(storage, job, overwrite, context);
  const Reason reason = ReasonOf(result.status());
  if (result.ok() || (reason != Reason::kOutputExists && reason != Reason::kSourceNotFound)) {
    return result;
  }
  // The answer of the call that did it may have been lost, or it was a moment faster.
  absl::StatusOr<CompressResult> before = FinishedBefore(storage, job);
  return before.ok() ? std::move(before) : std::move(result);
}

}  // namespace linchpin
