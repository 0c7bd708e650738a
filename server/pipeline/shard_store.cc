#include "pipeline/shard_store.h"

#include <memory>
#include <utility>

#include "artifact/manifest_claims.h"
#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{256} << 20;
constexpr int kKeyDigits = 12;

absl::Status BadDetection(std::string_view why) {
  return Error(Reason::kOptionInvalid, "detection_json", why,
               "give the detection_json of DetectSuperWeights");
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

// What a worker can do that has one shard and no activations.
absl::Status CheckOptionsOfParts(const QuantizeOptions& options) {
  if (NeedsImportance(options)) {
    return Error(Reason::kFeatureUnsupported, "quantization.scale",
                 "importance takes the activations of the whole model, which a worker has not",
                 "choose mse, signed or minmax, or compress the model in one call");
  }
  if (options.format != Format::kCompressedTensors) {
    return Error(Reason::kFeatureUnsupported, "quantization.format",
                 "only compressed-tensors is written in parts", "compress the model in one call");
  }
  return absl::OkStatus();
}

}  // namespace

std::string ShardDirectory(const ShardJob& job, int index) {
  std::string destination = job.destination;
  while (destination.size() > 1 && destination.ends_with('/')) destination.pop_back();
  return fmt::format("{}.shard-{}-{:05}", destination, job.key.substr(0, kKeyDigits), index);
}

absl::StatusOr<OpenShardJob> OpenShardJob::Open(const Storage& storage, const ShardJob& job) {
  RETURN_IF_ERROR(CheckOptionsOfParts(job.quantize));
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(storage, job.source));
  ASSIGN_OR_RETURN(Json detection,
                   ParseJson("detection_json", job.detection_json, Reason::kOptionInvalid));
  ASSIGN_OR_RETURN(const std::vector<PinnedWeight> pinned, PinnedIn(detection));
  ASSIGN_OR_RETURN(Plan plan, MakePlan(checkpoint, job.quantize, pinned));
  return OpenShardJob{std::move(checkpoint), std::move(detection), std::move(plan)};
}

std::string OpenShardJob::OutputName(int index) const {
  return checkpoint.has_index() ? checkpoint.shards()[index].name : "model.safetensors";
}

Plan OpenShardJob::PartOf(int index) const {
  Plan part = plan;
  std::erase_if(part.rows, [&](const PlanRow& row) { return row.source.shard != index; });
  std::erase_if(part.super_weights, [&](const PinnedWeight& weight) {
    const auto tensor = checkpoint.Find(weight.position.tensor);
    return !tensor.ok() || (*tensor)->shard != index;
  });
  return part;
}

absl::StatusOr<Json> ReadShard(const Storage& storage, const ShardJob& job, int index) {
  const std::string file = fmt::format("{}/{}", ShardDirectory(job, index), kManifestName);
  ASSIGN_OR_RETURN(const std::string text, ReadText(storage, file, kMaxManifestBytes));
  ASSIGN_OR_RETURN(const ManifestClaims claims, ReadManifestClaims(file, text));
  ASSIGN_OR_RETURN(Json manifest, ParseJson(file, text, Reason::kConfigInvalid));
  if (manifest.value(std::string(kJobKeyField), "") != job.key || claims.files.size() != 1) {
    return Error(Reason::kConfigInvalid, file, "it is of another job");
  }
  ASSIGN_OR_RETURN(const auto shard, storage.Open(fmt::format("{}/{}", ShardDirectory(job, index),
                                                              claims.files[0].name)));
  if (shard->size() != claims.files[0].size) {
    return Error(Reason::kDigestMismatch, claims.files[0].name, "its size is not the manifest's");
  }
  return manifest;
}

}  // namespace linchpin
