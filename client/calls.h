// The calls of the API as a command makes them: cancellable, with progress.
#pragma once

#include <string>

#include "client/command_line.h"
#include "client/connection.h"
#include "client/interrupts.h"
#include "grpcpp/support/status.h"
#include "linchpin/v1/compression.grpc.pb.h"

namespace linchpin {

// What every call of one command shares.
struct CallSettings {
  v1::CompressionService::Stub& stub;
  Interrupts& interrupts;
  bool quiet = false;
};

// A unary call: method is a member of the stub, e.g. &Stub::GetCapabilities.
template <typename Request, typename Response>
grpc::Status Call(const CallSettings& settings,
                  grpc::Status (v1::CompressionService::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                  const Request& request, Response& response);

// The streaming calls: progress to stderr, then the result.
grpc::Status Detect(const CallSettings& settings, const v1::DetectSuperWeightsRequest& request,
                    v1::DetectionResult& result);
grpc::Status Evaluate(const CallSettings& settings, const v1::EvaluateCompressionRequest& request,
                      v1::EvaluationResult& result);
grpc::Status Compress(const CallSettings& settings, const v1::CompressModelRequest& request,
                      v1::CompressionResult& result);
grpc::Status Prepare(const CallSettings& settings, const v1::PrepareCompressionRequest& request,
                     v1::PreparedCompression& result);
grpc::Status CompressShard(const CallSettings& settings, const v1::CompressShardRequest& request,
                           v1::ShardResult& result);
grpc::Status Finalize(const CallSettings& settings, const v1::FinalizeCompressionRequest& request,
                      v1::CompressionResult& result);
grpc::Status Verify(const CallSettings& settings, const v1::VerifyArtifactRequest& request,
                    v1::VerificationResult& result);

// Sends the files of `directory`, writes what comes back to `output`.
grpc::Status CompressByUpload(const CallSettings& settings, const v1::ArtifactOptions& options,
                              const std::string& directory, const std::string& output,
                              bool overwrite, v1::CompressionResult& result);

template <typename Request, typename Response>
grpc::Status Call(const CallSettings& settings,
                  grpc::Status (v1::CompressionService::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                  const Request& request, Response& response) {
  grpc::ClientContext context;
  const Interrupts::Scope scope(settings.interrupts, context);
  return (settings.stub.*method)(&context, request, &response);
}

}  // namespace linchpin
