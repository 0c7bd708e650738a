// The one place where messages become the engine's structs and back.
//
// FromProto refuses what is out of range with OPTION_INVALID, naming the field
// and what it takes; ToProto cannot fail.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "artifact/verify.h"
#include "base/run_context.h"
#include "linchpin/v1/compression.pb.h"
#include "pipeline/compress.h"
#include "pipeline/detect.h"
#include "pipeline/evaluate.h"
#include "quantize/options.h"
#include "quantize/plan.h"

namespace linchpin {

absl::StatusOr<QuantizeOptions> FromProto(const v1::QuantizationOptions& options);
absl::StatusOr<DetectRequest> FromProto(const v1::DetectionOptions& options);
absl::StatusOr<WindowOptions> FromProto(const v1::Windows& windows);
// `field` names the source in an error.  It may be empty.
absl::StatusOr<TokenSource> FromProto(const v1::TokenSource& source, std::string_view field);
absl::StatusOr<CompressOptions> FromProto(const v1::DetectionOptions& detection,
                                          const v1::QuantizationOptions& quantization);

// What it reads is not looked at.
absl::StatusOr<EvaluateRequest> FromProto(const v1::EvaluateCompressionRequest& request);

// OPTION_INVALID unless `path` is there and absolute, or a URI.
absl::Status RequirePath(std::string_view field, std::string_view path);

v1::Progress ToProto(const Progress& progress);
v1::Detection ToProto(const Detection& detection);
v1::KeptWeight ToProto(const KeptWeight& kept);
v1::CompressionResult ToProto(const CompressResult& result);
v1::PlanCompressionResponse ToProto(const Plan& plan);
v1::EvaluationResult ToProto(const Evaluation& evaluation);
v1::VerificationResult ToProto(const VerifyReport& report);

}  // namespace linchpin
