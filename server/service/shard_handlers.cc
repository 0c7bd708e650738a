// The calls of a compression in parts.
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "pipeline/source_record.h"
#include "service/conversion.h"
#include "service/handlers.h"
#include "service/job_source.h"

namespace linchpin {
namespace {

absl::Status NotPlanned() {
  return Error(Reason::kSourceChanged, "job.job_key",
               "source, options or version are not those of the job that was planned",
               "plan the job again");
}

// It becomes part of paths.
bool IsKey(std::string_view key) {
  return key.size() == 64 && key.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// What a call names, if its caller may have it.
absl::StatusOr<ShardJob> JobOf(const v1::CompressionJob& job, const JobRun& run) {
  RETURN_IF_ERROR(MayRead("job.source", job.source(), run));
  RETURN_IF_ERROR(MayWrite("job.destination", job.destination(), run));
  ShardJob part{.source = job.source(),
                .destination = job.destination(),
                .key = job.job_key(),
                .detection_json = job.detection_json(),
                .importance_sha256 = job.importance_sha256()};
  ASSIGN_OR_RETURN(const CompressOptions options, FromProto(job.detection(), job.quantization()));
  part.quantize = options.quantize;
  part.detect = !options.detect.skip;
  part.source_digest = options.source_digest;
  if (!IsKey(part.key)) return NotPlanned();
  // What the job keeps stands beside the destination.
  RETURN_IF_ERROR(MayWrite("job.destination", ShardDirectory(part, 0), run));
  return part;
}

// Learns what the source is from `storage` and reserves what it and `load` ask for.
// SOURCE_CHANGED unless the job is still the one that was planned.
absl::Status BeginPart(const v1::CompressionJob& job, const Storage& storage, TokenLoad load,
                       JobRun& run, ShardJob& part) {
  load.per_writer = OutputBytesPerThread(job.destination());
  ASSIGN_OR_RETURN(SourceSurvey survey, SurveyIn(storage, job.source(), load, run));
  ASSIGN_OR_RETURN(const std::string key, KeyFor(survey, run, job.detection(), job.quantization()));
  run.SetKey(key);
  if (key != job.job_key()) return NotPlanned();
  RETURN_IF_ERROR(run.Reserve(survey.memory_bytes));
  part.opened = std::move(survey.checkpoint);
  return absl::OkStatus();
}

// The same for a worker, from what the job's preparation recorded of the source, where
// that is still true of the shard's file; false where the source must tell itself, whatever
// is wrong with the record.
absl::StatusOr<bool> BeginReplayed(const v1::CompressShardRequest& request,
                                   const ReplayedStorage& replayed, JobRun& run, ShardJob& part) {
  if (!BeginPart(request.job(), replayed, TokenLoad{}, run, part).ok()) return false;
  if (part.opened == nullptr) return true;
  const auto& shards = part.opened->shards();
  const auto index = static_cast<size_t>(request.index());
  if (index >= shards.size()) return true;
  RETURN_IF_ERROR(replayed.CheckFile(shards[index].name));
  return true;
}

}  // namespace

absl::StatusOr<v1::PrepareCompressionResponse> Handle(const v1::PrepareCompressionRequest& request,
                                                      JobRun& run) {
  const Engine& engine = run.backend().engine;
  ASSIGN_OR_RETURN(const CompressOptions options,
                   FromProto(request.job().detection(), request.job().quantization()));
  ASSIGN_OR_RETURN(ShardJob job, JobOf(request.job(), run));
  RecordingStorage recording(run.storage());
  RETURN_IF_ERROR(BeginPart(request.job(), recording, LoadOf(options), run, job));
  const SourceRecord record = recording.Take();
  ASSIGN_OR_RETURN(const PreparedJob prepared,
                   engine.prepare(run.storage(), job, options, run.Context()));
  RETURN_IF_ERROR(WriteSourceRecord(run.storage(), job, record));
  v1::PrepareCompressionResponse response;
  v1::PreparedCompression& result = *response.mutable_result();
  if (prepared.detection) {
    run.backend().metrics.SuperWeightsDetected(
        static_cast<int64_t>(prepared.detection->super_weights.size()));
    *result.mutable_detection() = ToProto(*prepared.detection);
    result.set_detection_json(engine.detection_json(*prepared.detection));
  }
  result.set_importance_sha256(prepared.importance_sha256);
  result.set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::CompressShardResponse> Handle(const v1::CompressShardRequest& request,
                                                 JobRun& run) {
  ASSIGN_OR_RETURN(ShardJob job, JobOf(request.job(), run));
  const auto replayed = ReplaySource(run.storage(), job);
  bool begun = false;
  if (replayed != nullptr) {
    ASSIGN_OR_RETURN(begun, BeginReplayed(request, *replayed, run, job));
  }
  if (!begun) RETURN_IF_ERROR(BeginPart(request.job(), run.storage(), TokenLoad{}, run, job));
  ASSIGN_OR_RETURN(
      const ShardResult shard,
      run.backend().engine.compress_shard(run.storage(), job, request.index(), run.Context()));
  v1::CompressShardResponse response;
  v1::ShardResult& result = *response.mutable_result();
  result.set_skipped(shard.skipped);
  result.set_bytes_in(shard.bytes_in);
  result.set_bytes_out(shard.bytes_out);
  result.set_sha256(shard.sha256);
  result.set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::FinalizeCompressionResponse> Handle(
    const v1::FinalizeCompressionRequest& request, JobRun& run) {
  ASSIGN_OR_RETURN(ShardJob job, JobOf(request.job(), run));
  RETURN_IF_ERROR(BeginPart(request.job(), run.storage(), TokenLoad{}, run, job));
  ASSIGN_OR_RETURN(
      const CompressResult result,
      run.backend().engine.finalize(run.storage(), job, request.overwrite(), run.Context()));
  run.CountCompression(result);
  v1::FinalizeCompressionResponse response;
  *response.mutable_result() = ToProto(result);
  response.mutable_result()->set_job_key(run.key());
  return response;
}

}  // namespace linchpin
