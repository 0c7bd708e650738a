// The calls of a compression in parts.
#include <string>
#include <utility>

#include "base/status.h"
#include "service/conversion.h"
#include "service/handlers.h"
#include "service/job_source.h"

namespace linchpin {
namespace {

// The job of a call, if it is still the one that was planned, with the memory
// that its source and `load` ask for.
absl::StatusOr<ShardJob> BeginPart(const v1::CompressionJob& job, TokenLoad load, JobRun& run) {
  RETURN_IF_ERROR(MayRead("job.source", job.source(), run));
  RETURN_IF_ERROR(MayWrite("job.destination", job.destination(), run));
  ShardJob part{.source = job.source(),
                .destination = job.destination(),
                .key = job.job_key(),
                .detection_json = job.detection_json(),
                .importance_sha256 = job.importance_sha256()};
  ASSIGN_OR_RETURN(part.quantize, FromProto(job.quantization()));
  load.per_writer = OutputBytesPerThread(job.destination());
  ASSIGN_OR_RETURN(SourceSurvey survey,
                   Survey(job.source(), load, run, job.detection(), job.quantization()));
  RETURN_IF_ERROR(run.Reserve(survey.memory_bytes));
  if (run.key() != job.job_key()) {
    return Error(Reason::kSourceChanged, "job.job_key",
                 "source, options or version are not those of the job that was planned",
                 "plan the job again");
  }
  part.opened = std::move(survey.checkpoint);
  // What the job keeps stands beside the destination.
  RETURN_IF_ERROR(MayWrite("job.destination", ShardDirectory(part, 0), run));
  return part;
}

}  // namespace

absl::StatusOr<v1::PrepareCompressionResponse> Handle(const v1::PrepareCompressionRequest& request,
                                                      JobRun& run) {
  const Engine& engine = run.backend().engine;
  ASSIGN_OR_RETURN(const CompressOptions options,
                   FromProto(request.job().detection(), request.job().quantization()));
  ASSIGN_OR_RETURN(const ShardJob job, BeginPart(request.job(), LoadOf(options), run));
  ASSIGN_OR_RETURN(const PreparedJob prepared,
                   engine.prepare(run.storage(), job, options, run.Context()));
  run.backend().metrics.SuperWeightsDetected(
      static_cast<int64_t>(prepared.detection.super_weights.size()));
  v1::PrepareCompressionResponse response;
  v1::PreparedCompression& result = *response.mutable_result();
  *result.mutable_detection() = ToProto(prepared.detection);
  result.set_detection_json(engine.detection_json(prepared.detection));
  result.set_importance_sha256(prepared.importance_sha256);
  result.set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::CompressShardResponse> Handle(const v1::CompressShardRequest& request,
                                                 JobRun& run) {
  ASSIGN_OR_RETURN(const ShardJob job, BeginPart(request.job(), TokenLoad{}, run));
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
  ASSIGN_OR_RETURN(const ShardJob job, BeginPart(request.job(), TokenLoad{}, run));
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
