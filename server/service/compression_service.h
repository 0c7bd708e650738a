// The methods of linchpin.v1.CompressionService: each a line that hands its
// request to a handler in a worker.
#pragma once

#include "grpcpp/grpcpp.h"
#include "linchpin/v1/compression.grpc.pb.h"
#include "service/backend.h"

namespace linchpin {

// Thread-safe.  `backend` must outlive it and every call.
class CompressionService final : public v1::CompressionService::CallbackService {
 public:
  using Context = grpc::CallbackServerContext;

  explicit CompressionService(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* GetCapabilities(Context* context,
                                            const v1::GetCapabilitiesRequest* request,
                                            v1::GetCapabilitiesResponse* response) override;
  grpc::ServerUnaryReactor* PlanCompression(Context* context,
                                            const v1::PlanCompressionRequest* request,
                                            v1::PlanCompressionResponse* response) override;
  grpc::ServerWriteReactor<v1::DetectSuperWeightsResponse>* DetectSuperWeights(
      Context* context, const v1::DetectSuperWeightsRequest* request) override;
  grpc::ServerWriteReactor<v1::EvaluateCompressionResponse>* EvaluateCompression(
      Context* context, const v1::EvaluateCompressionRequest* request) override;
  grpc::ServerWriteReactor<v1::CompressModelResponse>* CompressModel(
      Context* context, const v1::CompressModelRequest* request) override;
  grpc::ServerWriteReactor<v1::PrepareCompressionResponse>* PrepareCompression(
      Context* context, const v1::PrepareCompressionRequest* request) override;
  grpc::ServerWriteReactor<v1::CompressShardResponse>* CompressShard(
      Context* context, const v1::CompressShardRequest* request) override;
  grpc::ServerWriteReactor<v1::FinalizeCompressionResponse>* FinalizeCompression(
      Context* context, const v1::FinalizeCompressionRequest* request) override;
  grpc::ServerBidiReactor<v1::CompressArtifactRequest, v1::CompressArtifactResponse>*
  CompressArtifact(Context* context) override;
  grpc::ServerWriteReactor<v1::VerifyArtifactResponse>* VerifyArtifact(
      Context* context, const v1::VerifyArtifactRequest* request) override;
  grpc::ServerUnaryReactor* CreateDemoModel(Context* context,
                                            const v1::CreateDemoModelRequest* request,
                                            v1::CreateDemoModelResponse* response) override;

 private:
  const Backend& backend_;
};

}  // namespace linchpin
