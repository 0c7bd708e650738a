#include "pipeline/shard_store.h"

#include <memory>
#include <utility>

#include "artifact/manifest_claims.h"
#include "base/status.h"
#include "fmt/format.h"
#include "pipeline/prepare.h"

namespace linchpin {
namespace {

constexpr int kKeyDigits = 12;

absl::Status BadDetection(std::string_view why) {
  return Error(Reason::kOptionInvalid, "detection_json", why,
               "give the detection_json of PrepareCompression");
}

absl::StatusOr<std::vector<PinnedWeight>> PinnedIn(const Json& detection) {
  const auto list = detection.is_object() ? detection.find("super_weights") : detection.end();
  if (!detection.is_object() || list == detection.end() || !list->is_array()) {
    return BadDetection("it has no list \"super_weights\"");
  }
  std::vector<PinnedWeight> pinned;
  for (const Json& weight : *list) {
    const bool sound = weight.is_object() && weight.contains("tensor") &&
                       weight["tensor"].is_string() && weight.contains("row") &&
                       weight["row"].is_number_unsigned() && weight.contains("column") &&
                       weight["column"].is_number_unsigned() && weight.contains("value") &&
                       weight["value"].is_number();
    if (!sound) return BadDetection("a super weight has no tensor, row, column or value");
    pinned.push_back({{weight["tensor"].get<std::string>(), weight["row"].get<int64_t>(),
                       weight["column"].get<int64_t>()},
                      weight["value"].get<float>()});
  }
  return pinned;
}

// What a shard's manifest has besides what ReadManifestClaims checks.
absl::Status FillIn(const Json& manifest, const std::string& file, FinishedShard& shard) {
  const Json name = At(manifest, "/source/files/0/name");
  const Json size = At(manifest, "/source/files/0/size");
  const Json sha256 = At(manifest, "/source/files/0/sha256");
  const Json bytes_in = At(manifest, "/output/bytes_in");
  const Json bytes_out = At(manifest, "/output/bytes_out");
  const Json samples = manifest.value(std::string(kSamplesField), Json());
  const Json version = manifest.value(std::string(kSourceVersionField), Json());
  if (!name.is_string() || !size.is_number_unsigned() ||
      !(sha256.is_string() || sha256.is_null()) || !bytes_in.is_number_unsigned() ||
      !bytes_out.is_number_unsigned() || !samples.is_string() || !version.is_string()) {
    return Error(Reason::kConfigInvalid, file, "it is no manifest of a shard");
  }
  shard.source = {name.get<std::string>(), size.get<uint64_t>(),
                  sha256.is_string() ? sha256.get<std::string>() : ""};
  shard.source_version = version.get<std::string>();
  shard.samples = samples.get<std::string>();
  shard.bytes_in = bytes_in.get<uint64_t>();
  shard.bytes_out = bytes_out.get<uint64_t>();
  shard.tensors = At(manifest, "/tensors");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckParts(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  const auto refuse = [](std::string_view what, std::string_view why) {
    return Error(Reason::kFeatureUnsupported, what, why, "compress the model in one call");
  };
  if (options.format == Format::kGguf) {
    return refuse("quantization.format",
                  "a GGUF output is one file, whose tensors do not stay in the source's shards");
  }
  if (checkpoint.is_gguf()) {
    return refuse(checkpoint.path(),
                  "what is made from a GGUF file is one file, whatever its parts");
  }
  return absl::OkStatus();
}

Json At(const Json& json, const char* pointer) {
  return json.is_object() ? json.value(Json::json_pointer(pointer), Json()) : Json();
}

absl::StatusOr<Json> DetectionOf(const ShardJob& job) {
  if (job.detect) return ParseJson("detection_json", job.detection_json, Reason::kOptionInvalid);
  if (job.detection_json.empty()) return Json();
  return BadDetection("there is one, and detection is off");
}

std::string JobDirectory(const ShardJob& job, std::string_view what) {
  std::string destination = job.destination;
  while (destination.size() > 1 && destination.ends_with('/')) destination.pop_back();
  return fmt::format("{}.shard-{}-{}", destination, job.key.substr(0, kKeyDigits), what);
}

std::string ShardDirectory(const ShardJob& job, int index) {
  return JobDirectory(job, fmt::format("{:05}", index));
}

absl::StatusOr<std::shared_ptr<const Checkpoint>> SourceOf(const Storage& storage,
                                                           const ShardJob& job) {
  if (job.opened != nullptr) return job.opened;
  ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(storage, job.source));
  return std::make_shared<const Checkpoint>(std::move(opened));
}

absl::StatusOr<OpenShardJob> OpenShardJob::Open(const Storage& storage, const ShardJob& job,
                                                std::optional<int> index) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Checkpoint> source, SourceOf(storage, job));
  const Checkpoint& checkpoint = *source;
  RETURN_IF_ERROR(CheckParts(checkpoint, job.quantize));
  const int shards = static_cast<int>(checkpoint.shards().size());
  if (index && (*index < 0 || *index >= shards)) {
    return Error(Reason::kOptionInvalid, "index", fmt::format("it is {}", *index),
                 fmt::format("the source has shards 0 to {}", shards - 1));
  }
  ASSIGN_OR_RETURN(Json detection, DetectionOf(job));
  std::vector<PinnedWeight> pinned;
  if (job.detect) {
    ASSIGN_OR_RETURN(pinned, PinnedIn(detection));
  }
  std::optional<ShardImportance> measured;
  if (NeedsImportance(job.quantize)) {
    ASSIGN_OR_RETURN(measured, ReadImportance(storage, job, checkpoint, index));
  }
  ASSIGN_OR_RETURN(Plan plan, MakePlan(checkpoint, job.quantize, pinned,
                                       measured ? &measured->importance : nullptr));
  if (!job.detect) NoteSkipped(plan);
  return OpenShardJob{std::move(source), std::move(detection), std::move(measured),
                      std::move(plan)};
}

std::string OpenShardJob::OutputName(int index) const {
  return source->has_index() ? source->shards()[index].name : "model.safetensors";
}

Plan OpenShardJob::PartOf(int index) const {
  Plan part = plan;
  std::erase_if(part.rows, [&](const PlanRow& row) { return row.source.shard != index; });
  std::erase_if(part.super_weights, [&](const PinnedWeight& weight) {
    const auto tensor = source->Find(weight.position.tensor);
    return !tensor.ok() || (*tensor)->shard != index;
  });
  return part;
}

absl::StatusOr<FinishedShard> ReadShard(const Storage& storage, const ShardJob& job, int index) {
  const std::string file = fmt::format("{}/{}", ShardDirectory(job, index), kManifestName);
  ASSIGN_OR_RETURN(const std::string text, ReadText(storage, file, kMaxManifestBytes));
  ASSIGN_OR_RETURN(ManifestClaims claims, ReadManifestClaims(file, text));
  ASSIGN_OR_RETURN(const Json manifest, ParseJson(file, text, Reason::kConfigInvalid));
  if (manifest.value(std::string(kJobKeyField), Json()) != job.key || claims.files.size() != 1) {
    return Error(Reason::kConfigInvalid, file, "it is of another job");
  }
  FinishedShard shard{.file = std::move(claims.files.front()), .kept = std::move(claims.kept)};
  RETURN_IF_ERROR(FillIn(manifest, file, shard));
  ASSIGN_OR_RETURN(const auto weights,
                   storage.Open(fmt::format("{}/{}", ShardDirectory(job, index), shard.file.name)));
  if (weights->size() != shard.file.size) {
    return Error(Reason::kDigestMismatch, shard.file.name, "its size is not the manifest's");
  }
  return shard;
}

absl::Status CheckSource(const Checkpoint& source, int index, const FinishedShard& done,
                         const RunContext& context) {
  const Shard& shard = source.shards()[static_cast<size_t>(index)];
  const std::string version = source.Version(index);
  bool same = done.source.name == shard.name && done.source.size == shard.size;
  if (same && (version.empty() || version != done.source_version) && !done.source.sha256.empty()) {
    ASSIGN_OR_RETURN(const std::vector<FileRecord> now, DigestShard(source, index, context));
    same = now.front().sha256 == done.source.sha256;
  }
  if (same) return absl::OkStatus();
  return Error(Reason::kSourceChanged, fmt::format("{}/{}", source.path(), shard.name),
               fmt::format("shard {} was made from other bytes", index), "plan the job again");
}

}  // namespace linchpin
