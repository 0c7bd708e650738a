#include "service/handlers.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "service/conversion.h"

namespace linchpin {
namespace {

// Reserves what the forward pass over `source` needs; its headers and `load` say.
absl::Status ReserveFor(const std::string& source, const TokenLoad& load, JobRun& run) {
  const Backend& backend = run.backend();
  ASSIGN_OR_RETURN(const uint64_t bytes,
                   backend.engine.estimate_memory(run.storage(), source, backend.threads, load));
  return run.Reserve(bytes);
}

void AddNames(const std::vector<std::string_view>& names,
              google::protobuf::RepeatedPtrField<std::string>* field) {
  for (const std::string_view name : names) field->Add(std::string(name));
}

}  // namespace

v1::GetCapabilitiesResponse Capabilities(const Backend& backend) {
  v1::GetCapabilitiesResponse response;
  response.set_version(backend.engine.version);
  response.set_libtorch_version(backend.engine.libtorch_version);
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
  RETURN_IF_ERROR(RequirePath("source", request.source()));
  ASSIGN_OR_RETURN(const QuantizeOptions options, FromProto(request.quantization()));
  ASSIGN_OR_RETURN(const uint64_t memory,
                   backend.engine.estimate_memory(run.storage(), request.source(), backend.threads,
                                                  LoadOf(DetectRequest{})));
  ASSIGN_OR_RETURN(const linchpin::Plan plan,
                   backend.engine.plan(run.storage(), request.source(), options));
  if (!request.destination().empty()) {
    RETURN_IF_ERROR(RequirePath("destination", request.destination()));
    // Dropped without a commit, which leaves nothing behind.
    RETURN_IF_ERROR(
        run.storage().CreateDirectory(request.destination(), /*overwrite=*/false).status());
  }
  v1::PlanCompressionResponse response = ToProto(plan);
  response.set_memory_bytes(memory);
  return response;
}

absl::StatusOr<v1::DetectSuperWeightsResponse> Handle(const v1::DetectSuperWeightsRequest& request,
                                                      JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(RequirePath("source", request.source()));
  ASSIGN_OR_RETURN(const DetectRequest options, FromProto(request.detection()));
  RETURN_IF_ERROR(ReserveFor(request.source(), LoadOf(options), run));
  ASSIGN_OR_RETURN(const Detection found,
                   backend.engine.detect(run.storage(), request.source(), options, run.Context()));
  backend.metrics.SuperWeightsDetected(static_cast<int64_t>(found.super_weights.size()));
  v1::DetectSuperWeightsResponse response;
  *response.mutable_result()->mutable_detection() = ToProto(found);
  response.mutable_result()->set_detection_json(backend.engine.detection_json(found));
  return response;
}

absl::StatusOr<v1::EvaluateCompressionResponse> Handle(
    const v1::EvaluateCompressionRequest& request, JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(RequirePath("source", request.source()));
  ASSIGN_OR_RETURN(const TokenSource tokens, FromProto(request.tokens(), "tokens"));
  ASSIGN_OR_RETURN(const WindowOptions windows, FromProto(request.windows()));
  if (tokens.empty()) {
    return Error(Reason::kOptionInvalid, "tokens", "there are none", "give ids or a text");
  }
  const TokenLoad load = LoadOf(tokens, windows);
  RETURN_IF_ERROR(ReserveFor(request.source(), load, run));
  if (!request.against().empty()) {
    RETURN_IF_ERROR(RequirePath("against", request.against()));
    RETURN_IF_ERROR(ReserveFor(request.against(), load, run));
  }
  ASSIGN_OR_RETURN(const Evaluation evaluation,
                   backend.engine.evaluate(run.storage(), request.source(), request.against(),
                                           tokens, windows, run.Context()));
  v1::EvaluateCompressionResponse response;
  *response.mutable_result() = ToProto(evaluation);
  return response;
}

absl::StatusOr<v1::CompressModelResponse> Handle(const v1::CompressModelRequest& request,
                                                 JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(RequirePath("source", request.source()));
  RETURN_IF_ERROR(RequirePath("destination", request.destination()));
  ASSIGN_OR_RETURN(CompressOptions options, FromProto(request.detection(), request.quantization()));
  options.overwrite = request.overwrite();
  RETURN_IF_ERROR(ReserveFor(request.source(), LoadOf(options), run));
  ASSIGN_OR_RETURN(const CompressResult result,
                   backend.engine.compress(run.storage(), request.source(), run.storage(),
                                           request.destination(), options, run.Context()));
  run.CountCompression(result);
  v1::CompressModelResponse response;
  *response.mutable_result() = ToProto(result);
  return response;
}

absl::StatusOr<v1::VerifyArtifactResponse> Handle(const v1::VerifyArtifactRequest& request,
                                                  JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(RequirePath("directory", request.directory()));
  ASSIGN_OR_RETURN(const VerifyReport report,
                   backend.engine.verify(run.storage(), request.directory(), run.Context()));
  if (!report.mismatches.empty()) backend.metrics.CountReason(Reason::kVerifyMismatch);
  v1::VerifyArtifactResponse response;
  *response.mutable_result() = ToProto(report);
  return response;
}

absl::StatusOr<v1::CreateDemoModelResponse> Handle(const v1::CreateDemoModelRequest& request,
                                                   JobRun& run) {
  const Backend& backend = run.backend();
  RETURN_IF_ERROR(RequirePath("destination", request.destination()));
  ASSIGN_OR_RETURN(const uint64_t bytes,
                   backend.engine.write_demo_model(run.storage(), request.destination()));
  v1::CreateDemoModelResponse response;
  response.set_bytes(bytes);
  return response;
}

}  // namespace linchpin
