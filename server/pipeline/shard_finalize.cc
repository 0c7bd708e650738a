// The last call of a job in parts.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "artifact/artifact_writer.h"
#include "artifact/digest.h"
#include "artifact/manifest.h"
#include "artifact/manifest_claims.h"
#include "artifact/partial_output.h"
#include "base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "format/shard_index.h"
#include "pipeline/shard_job.h"
#include "pipeline/shard_store.h"

namespace linchpin {
namespace {

constexpr uint64_t kCopyBytes = uint64_t{1} << 20;

// Copies a finished shard and checks its digest on the way.
absl::Status CopyShard(const Storage& storage, const std::string& directory,
                       const FileRecord& record, OutputDirectory& output,
                       const RunContext& context) {
  const std::string path = directory + "/" + record.name;
  ASSIGN_OR_RETURN(const auto from, storage.Open(path));
  ASSIGN_OR_RETURN(const auto to, output.CreateFile(record.name, record.size));
  Sha256 digest;
  std::vector<std::byte> buffer(std::min(record.size, kCopyBytes));
  for (uint64_t done = 0; done < record.size; done += kCopyBytes) {
    RETURN_IF_ERROR(context.Check());
    const absl::Span<std::byte> chunk(buffer.data(), std::min(kCopyBytes, record.size - done));
    RETURN_IF_ERROR(from->ReadAt(done, chunk));
    digest.Update(chunk);
    RETURN_IF_ERROR(to->WriteAt(done, chunk));
  }
  if (digest.Hex() == record.sha256) return absl::OkStatus();
  return Error(Reason::kDigestMismatch, path, "its bytes are not those that were written",
               "remove its directory and compress the shard again");
}

absl::StatusOr<std::vector<Json>> ReadShards(const Storage& storage, const ShardJob& job,
                                             int count) {
  std::vector<Json> shards;
  std::vector<int> missing;
  for (int index = 0; index < count; ++index) {
    absl::StatusOr<Json> shard = ReadShard(storage, job, index);
    if (shard.ok()) {
      shards.push_back(*std::move(shard));
    } else {
      missing.push_back(index);
    }
  }
  if (missing.empty()) return shards;
  return WithDetail(Error(Reason::kSourceNotFound, job.destination,
                          fmt::format("{} of {} shards are not finished: {}", missing.size(), count,
                                      fmt::join(missing, ", ")),
                          "compress them, then call again"),
                    "missing", fmt::format("{}", fmt::join(missing, ",")));
}

// The source's files, which must still be those that the shards were made from.
absl::StatusOr<std::vector<FileRecord>> CheckedSource(const Checkpoint& checkpoint,
                                                      const std::vector<Json>& shards,
                                                      const RunContext& context) {
  ASSIGN_OR_RETURN(std::vector<FileRecord> files, DigestCheckpoint(checkpoint, context));
  for (const Json& shard : shards) {
    const Json& before = shard["source"]["files"][0];
    const bool same = std::any_of(files.begin(), files.end(), [&](const FileRecord& file) {
      return file.name == before["name"] && file.sha256 == before["sha256"];
    });
    if (same) continue;
    return Error(Reason::kSourceChanged,
                 checkpoint.path() + "/" + before["name"].get<std::string>(),
                 "it is not what its shard was made from", "compress the model again");
  }
  return files;
}

// The manifest of the whole from those of the parts.
Json Merge(Json whole, const Json& detection, const std::vector<Json>& shards,
           const std::vector<PinnedWeight>& order) {
  whole["detection"] = detection;
  whole["tensors"] = Json::array();
  std::vector<Json> kept;
  for (const Json& shard : shards) {
    for (const Json& tensor : shard["tensors"]) whole["tensors"].push_back(tensor);
    for (const Json& weight : shard["super_weights"]) kept.push_back(weight);
  }
  whole["super_weights"] = Json::array();
  for (const PinnedWeight& pinned : order) {
    for (const Json& weight : kept) {
      if (weight["tensor"] == pinned.position.tensor && weight["row"] == pinned.position.row &&
          weight["column"] == pinned.position.column) {
        whole["super_weights"].push_back(weight);
      }
    }
  }
  return whole;
}

std::string IndexText(const OpenShardJob& open) {
  ShardIndex index{.total_size = open.plan.bytes_out()};
  for (const PlanRow& row : open.plan.rows) {
    for (const TensorInfo& info : row.outputs) {
      index.weight_map[info.name] = open.OutputName(row.source.shard);
    }
  }
  return SerializeShardIndex(index);
}

// Everything but the shards and the manifest; the records of its files.
absl::StatusOr<std::vector<FileRecord>> WriteSideFiles(const OpenShardJob& open,
                                                       OutputDirectory& output,
                                                       const RunContext& context) {
  Plan none = open.plan;
  none.rows.clear();
  none.super_weights.clear();
  const auto beside = [&](std::string_view name) {
    if (name == kShardIndexName) return false;  // knows of no tensor
    for (int i = 0; i < open.shards(); ++i) {
      if (name == open.OutputName(i)) return false;
    }
    return true;
  };
  PartialOutput partial(output, beside);
  ASSIGN_OR_RETURN(ArtifactRecord record, WriteArtifact(open.checkpoint, none, partial, context));
  std::erase_if(record.files, [&](const FileRecord& file) { return !beside(file.name); });
  if (!open.checkpoint.has_index()) return std::move(record.files);
  const std::string index = IndexText(open);
  RETURN_IF_ERROR(WriteText(output, kShardIndexName, index));
  record.files.push_back({std::string(kShardIndexName), index.size(), Sha256Hex(index)});
  return std::move(record.files);
}

absl::StatusOr<std::vector<FileRecord>> CopyShards(const Storage& storage, const ShardJob& job,
                                                   const std::vector<Json>& shards,
                                                   OutputDirectory& output,
                                                   const RunContext& context) {
  std::vector<FileRecord> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    const Json& file = shards[i]["output"]["files"][0];
    files.push_back({file["name"].get<std::string>(), file["size"].get<uint64_t>(),
                     file["sha256"].get<std::string>()});
    context.Report({Stage::kArtifact, files.back().name, i, shards.size()});
    RETURN_IF_ERROR(CopyShard(storage, ShardDirectory(job, static_cast<int>(i)), files.back(),
                              output, context));
  }
  return files;
}

// What a manifest says of super weights, as results have it.
std::vector<KeptWeight> KeptIn(const std::string& manifest) {
  const auto claims = ReadManifestClaims(kManifestName, manifest);
  return claims.ok() ? claims->kept : std::vector<KeptWeight>();
}

}  // namespace

absl::StatusOr<CompressResult> FinalizeCompression(const Storage& storage, const ShardJob& job,
                                                   bool overwrite, const RunContext& context) {
  ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(job.destination, overwrite));
  ASSIGN_OR_RETURN(const OpenShardJob open, OpenShardJob::Open(storage, job));
  ASSIGN_OR_RETURN(const std::vector<Json> shards, ReadShards(storage, job, open.shards()));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> source,
                   CheckedSource(open.checkpoint, shards, context));
  ArtifactRecord artifact;
  ASSIGN_OR_RETURN(artifact.files, CopyShards(storage, job, shards, *output, context));
  ASSIGN_OR_RETURN(const std::vector<FileRecord> beside, WriteSideFiles(open, *output, context));
  artifact.files.insert(artifact.files.end(), beside.begin(), beside.end());
  std::sort(artifact.files.begin(), artifact.files.end(),
            [](const FileRecord& a, const FileRecord& b) { return a.name < b.name; });

  CompressResult result;
  const Json whole = BuildManifest({.source_name = LastComponent(job.source),
                                    .source_files = source,
                                    .plan = &open.plan,
                                    .detection = &result.detection,
                                    .artifact = &artifact});
  result.manifest =
      SerializeManifest(Merge(whole, open.detection, shards, open.plan.super_weights));
  RETURN_IF_ERROR(WriteText(*output, kManifestName, result.manifest));
  RETURN_IF_ERROR(context.Check());
  RETURN_IF_ERROR(output->Commit());
  result.manifest_sha256 = Sha256Hex(result.manifest);
  result.kept = KeptIn(result.manifest);
  result.bytes_in = open.plan.bytes_in();
  result.bytes_out = open.plan.bytes_out();
  result.notes = open.plan.notes;
  return result;
}

}  // namespace linchpin
