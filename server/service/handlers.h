// What each call does, in a worker: a request in, a response out.  No gRPC here;
// every decision is the engine's.
#pragma once

#include "absl/status/statusor.h"
#include "linchpin/v1/compression.pb.h"
#include "service/job_run.h"

namespace linchpin {

// Errors are those of the calls in compression.proto.
v1::GetCapabilitiesResponse Capabilities(const Backend& backend);
absl::StatusOr<v1::PlanCompressionResponse> Handle(const v1::PlanCompressionRequest& request,
                                                   JobRun& run);
absl::StatusOr<v1::DetectSuperWeightsResponse> Handle(const v1::DetectSuperWeightsRequest& request,
                                                      JobRun& run);
absl::StatusOr<v1::EvaluateCompressionResponse> Handle(
    const v1::EvaluateCompressionRequest& request, JobRun& run);
absl::StatusOr<v1::CompressModelResponse> Handle(const v1::CompressModelRequest& request,
                                                 JobRun& run);
absl::StatusOr<v1::PrepareCompressionResponse> Handle(const v1::PrepareCompressionRequest& request,
                                                      JobRun& run);
absl::StatusOr<v1::CompressShardResponse> Handle(const v1::CompressShardRequest& request,
                                                 JobRun& run);
absl::StatusOr<v1::FinalizeCompressionResponse> Handle(
    const v1::FinalizeCompressionRequest& request, JobRun& run);
absl::StatusOr<v1::VerifyArtifactResponse> Handle(const v1::VerifyArtifactRequest& request,
                                                  JobRun& run);
absl::StatusOr<v1::CreateDemoModelResponse> Handle(const v1::CreateDemoModelRequest& request,
                                                   JobRun& run);

}  // namespace linchpin
