#include "service/handlers.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "base/status.h"
#include "service/conversion.h"
#include "service/job_source.h"
#include "service/request_key.h"
#include "service/status_conversion.h"

namespace linchpin {
namespace {

// Every reason in one: the first as itself, the others as details.
absl::Status AllOf(const std::vector<absl::Status>& statuses) {
  absl::Status all;
  for (const absl::Status& status : statuses) {
    if (status.ok() || ReasonOf(status) == ReasonOf(all)) continue;
    const std::string name = absl::AsciiStrToLower(std::string(InfoOf(ReasonOf(status)).name));
    all = all.ok() ? status : WithDetail(all, "also_" + name, std::string(status.message()));
  }
  return all;
}

// A job keeps to what the server has for all, where it can.
TokenLoad LoadWithin(const CompressOptions& options, const std::string& destination,
                     const JobRun& run) {
  TokenLoad load = LoadOf(options);
  load.preferred = run.backend().jobs.admission().limit_bytes();
  load.per_writer = OutputBytesPerThread(destination);
  return load;
}

absl::Status CheckMemory(const SourceSurvey& survey, const JobRun& run) {
  return run.backend().jobs.admission().CheckFits(0, survey.memory_bytes);
}

void AddNames(const std::vector<std::string_view>& names,
              google::protobuf::RepeatedPtrField<std::string>* field) {
  for (const std::string_view name : names) field->Add(std::string(name));
}

// Whether a directory could be created at `destination`, if one is named.
absl::Status CheckFree(const std::string& destination, const JobRun& run) {
  if (destination.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(MayWrite("destination", destination, run));
  // Dropped without a commit, which leaves nothing behind.
  return run.storage().CreateDirectory(destination, /*overwrite=*/false).status();
}

// A donor is read like a source.
absl::Status MayReadDonor(const QuantizeOptions& options, const JobRun& run) {
  if (options.gguf_donor.empty()) return absl::OkStatus();
  return MayRead("quantization.gguf_donor", options.gguf_donor, run);
}

void AddShards(const SourceSurvey& survey, const linchpin::Plan& plan,
               v1::PlanCompressionResponse& response) {
  for (const std::string& name : survey.shards) response.add_shards()->set_name(ValidUtf8(name));
  for (const PlanRow& row : plan.rows) {
    if (row.source.shard >= response.shards_size()) continue;
    v1::PlannedShard& shard = *response.mutable_shards(row.source.shard);
    shard.set_bytes_in(shard.bytes_in() + row.bytes_in());
    shard.set_bytes_out(shard.bytes_out() + row.bytes_out());
  }
}

double SecondsFor(uint64_t source_bytes, int threads) {
  constexpr double kBytesPerSecond = 0.4e9;  // of one thread
  return static_cast<double>(source_bytes) / (kBytesPerSecond * threads);
}

}  // namespace

v1::GetCapabilitiesResponse Capabilities(const Backend& backend) {
  v1::GetCapabilitiesResponse response;
  response.set_version(backend.engine.version);
  response.set_libtorch_version(backend.engine.libtorch_version());
  for (const std::string& family : backend.engine.families) response.add_families(family);
  AddNames(SchemeNames(), response.mutable_schemes());
  AddNames(FormatNames(), response.mutable_formats());
  for (const std::string& scheme : backend.uri_schemes) response.add_uri_schemes(scheme);
  response.set_max_message_bytes(kMaxMessageBytes);
  response.set_max_artifact_bytes(backend.max_artifact_bytes);
  response.set_chunk_bytes(kChunkBytes);
  AddNames(ScaleRuleNames(), response.mutable_scale_rules());
  AddNames(PreserveNames(), response.mutable_preserve_modes());
  return response;
}

absl::StatusOr<v1::PlanCompressionResponse> Handle(const v1::PlanCompressionRequest& request,
                                                   JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(MayRead("source", request.source(), run));
  ASSIGN_OR_RETURN(CompressOptions options, FromProto(request.detection(), request.quantization()));
  RETURN_IF_ERROR(MayReadDonor(options.quantize, run));
  options.max_memory = request.max_memory_bytes();
  const auto survey = Survey(request.source(), LoadWithin(options, request.destination(), run), run,
                             request.detection(), request.quantization());
  const auto plan = backend.engine.plan(run.storage(), request.source(), options);
  RETURN_IF_ERROR(AllOf({survey.status(), plan.status(),
                         survey.ok() ? CheckMemory(*survey, run) : absl::OkStatus(),
                         CheckFree(request.destination(), run)}));
  v1::PlanCompressionResponse response = ToProto(*plan);
  AddShards(*survey, *plan, response);
  response.set_memory_bytes(survey->memory_bytes);
  response.set_estimated_seconds(SecondsFor(survey->source_bytes, backend.threads));
  response.set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::DetectSuperWeightsResponse> Handle(const v1::DetectSuperWeightsRequest& request,
                                                      JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(MayRead("source", request.source(), run));
  ASSIGN_OR_RETURN(const DetectRequest options, FromProto(request.detection()));
  RETURN_IF_ERROR(ReserveFor(request.source(), LoadOf(options), run, request.detection()));
  ASSIGN_OR_RETURN(const Detection found,
                   backend.engine.detect(run.storage(), request.source(), options, run.Context()));
  backend.metrics.SuperWeightsDetected(static_cast<int64_t>(found.super_weights.size()));
  v1::DetectSuperWeightsResponse response;
  *response.mutable_result()->mutable_detection() = ToProto(found);
  response.mutable_result()->set_detection_json(backend.engine.detection_json(found));
  response.mutable_result()->set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::EvaluateCompressionResponse> Handle(
    const v1::EvaluateCompressionRequest& request, JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(MayRead("source", request.source(), run));
  ASSIGN_OR_RETURN(const EvaluateRequest options, FromProto(request));
  const TokenLoad load = LoadOf(options);
  RETURN_IF_ERROR(ReserveFor(request.source(), load, run, request.tokens(), request.windows(),
                             request.analyses()));
  if (!request.against().empty()) {
    RETURN_IF_ERROR(MayRead("against", request.against(), run));
    ASSIGN_OR_RETURN(const SourceSurvey against, SurveyFor(request.against(), load, run));
    RETURN_IF_ERROR(run.Reserve(against.memory_bytes));
    run.SetKey(KeyOfBytes(run.key(), against.fingerprint));
  }
  ASSIGN_OR_RETURN(
      const Evaluation evaluation,
      backend.engine.evaluate(run.storage(), request.source(), options, run.Context()));
  v1::EvaluateCompressionResponse response;
  *response.mutable_result() = ToProto(evaluation);
  response.mutable_result()->set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::CompressModelResponse> Handle(const v1::CompressModelRequest& request,
                                                 JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(MayRead("source", request.source(), run));
  RETURN_IF_ERROR(MayWrite("destination", request.destination(), run));
  ASSIGN_OR_RETURN(CompressOptions options, FromProto(request.detection(), request.quantization()));
  RETURN_IF_ERROR(MayReadDonor(options.quantize, run));
  options.overwrite = request.overwrite();
  options.max_memory = request.max_memory_bytes();
  ASSIGN_OR_RETURN(SourceSurvey survey,
                   Survey(request.source(), LoadWithin(options, request.destination(), run), run,
                          request.detection(), request.quantization()));
  RETURN_IF_ERROR(run.Reserve(survey.memory_bytes));
  survey.checkpoint.reset();  // its files need not be open twice
  options.key = run.key();
  RunContext context = run.Context();
  context.threads = survey.set.threads;
  context.slab_bytes = survey.set.slab_bytes;
  ASSIGN_OR_RETURN(const CompressResult result,
                   backend.engine.compress(run.storage(), request.source(), run.storage(),
                                           request.destination(), options, context));
  run.CountCompression(result);
  v1::CompressModelResponse response;
  *response.mutable_result() = ToProto(result);
  response.mutable_result()->set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::VerifyArtifactResponse> Handle(const v1::VerifyArtifactRequest& request,
                                                  JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(MayRead("directory", request.directory(), run));
  run.SetKey(KeyOf("", request));
  ASSIGN_OR_RETURN(const VerifyReport report,
                   backend.engine.verify(run.storage(), request.directory(), run.Context()));
  if (!report.mismatches.empty()) backend.metrics.CountReason(Reason::kVerifyMismatch);
  v1::VerifyArtifactResponse response;
  *response.mutable_result() = ToProto(report);
  response.mutable_result()->set_job_key(run.key());
  return response;
}

absl::StatusOr<v1::CreateDemoModelResponse> Handle(const v1::CreateDemoModelRequest& request,
                                                   JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(MayWrite("destination", request.destination(), run));
  run.SetKey(KeyOf("", request));
  ASSIGN_OR_RETURN(const uint64_t bytes,
                   backend.engine.write_demo_model(run.storage(), request.destination()));
  v1::CreateDemoModelResponse response;
  response.set_bytes(bytes);
  response.set_job_key(run.key());
  return response;
}

}  // namespace linchpin
