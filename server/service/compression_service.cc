#include "service/compression_service.h"

#include <memory>

#include "service/artifact_reactor.h"
#include "service/handlers.h"
#include "service/job_reactor.h"

namespace linchpin {
namespace {

// gRPC keeps a request until its call is done, which is after the work.
template <class Request, class Response>
grpc::ServerUnaryReactor* Answer(const Backend& backend, JobKind kind,
                                 grpc::CallbackServerContext* context, const Request* request,
                                 Response* response) {
  return std::make_shared<UnaryReactor<Response>>(backend, context, response)
      ->Begin(kind, [request](JobRun& run) { return Handle(*request, run); });
}

template <class Response, class Request>
grpc::ServerWriteReactor<Response>* Stream(const Backend& backend, JobKind kind,
                                           grpc::CallbackServerContext* context,
                                           const Request* request) {
  using Reactor = JobReactor<grpc::ServerWriteReactor<Response>, Response>;
  return std::make_shared<Reactor>(backend, context)->Begin(kind, [request](JobRun& run) {
    return Handle(*request, run);
  });
}

}  // namespace

grpc::ServerUnaryReactor* CompressionService::GetCapabilities(
    Context* context, const v1::GetCapabilitiesRequest*, v1::GetCapabilitiesResponse* response) {
  const absl::Status allowed = OriginOf(*context, backend_, "GetCapabilities").status();
  if (allowed.ok()) *response = Capabilities(backend_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(EndCall(*context, allowed));
  return reactor;
}

grpc::ServerUnaryReactor* CompressionService::PlanCompression(
    Context* context, const v1::PlanCompressionRequest* request,
    v1::PlanCompressionResponse* response) {
  return Answer(backend_, JobKind::kPlan, context, request, response);
}

grpc::ServerWriteReactor<v1::DetectSuperWeightsResponse>* CompressionService::DetectSuperWeights(
    Context* context, const v1::DetectSuperWeightsRequest* request) {
  return Stream<v1::DetectSuperWeightsResponse>(backend_, JobKind::kDetect, context, request);
}

grpc::ServerWriteReactor<v1::EvaluateCompressionResponse>* CompressionService::EvaluateCompression(
    Context* context, const v1::EvaluateCompressionRequest* request) {
  return Stream<v1::EvaluateCompressionResponse>(backend_, JobKind::kEvaluate, context, request);
}

grpc::ServerWriteReactor<v1::CompressModelResponse>* CompressionService::CompressModel(
    Context* context, const v1::CompressModelRequest* request) {
  return Stream<v1::CompressModelResponse>(backend_, JobKind::kCompress, context, request);
}

grpc::ServerWriteReactor<v1::PrepareCompressionResponse>* CompressionService::PrepareCompression(
    Context* context, const v1::PrepareCompressionRequest* request) {
  return Stream<v1::PrepareCompressionResponse>(backend_, JobKind::kPrepare, context, request);
}

grpc::ServerWriteReactor<v1::CompressShardResponse>* CompressionService::CompressShard(
    Context* context, const v1::CompressShardRequest* request) {
  return Stream<v1::CompressShardResponse>(backend_, JobKind::kShard, context, request);
}

grpc::ServerWriteReactor<v1::FinalizeCompressionResponse>* CompressionService::FinalizeCompression(
    Context* context, const v1::FinalizeCompressionRequest* request) {
  return Stream<v1::FinalizeCompressionResponse>(backend_, JobKind::kFinalize, context, request);
}

grpc::ServerBidiReactor<v1::CompressArtifactRequest, v1::CompressArtifactResponse>*
CompressionService::CompressArtifact(Context* context) {
  return std::make_shared<ArtifactReactor>(backend_, context)->BeginTransfer();
}

grpc::ServerWriteReactor<v1::VerifyArtifactResponse>* CompressionService::VerifyArtifact(
    Context* context, const v1::VerifyArtifactRequest* request) {
  return Stream<v1::VerifyArtifactResponse>(backend_, JobKind::kVerify, context, request);
}

grpc::ServerUnaryReactor* CompressionService::CreateDemoModel(
    Context* context, const v1::CreateDemoModelRequest* request,
    v1::CreateDemoModelResponse* response) {
  return Answer(backend_, JobKind::kDemoModel, context, request, response);
}

}  // namespace linchpin
