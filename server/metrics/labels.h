// The closed sets of label values: never a model, a tensor, a path or a job.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/status.h"

namespace linchpin {

// What a job does; one per RPC that takes a slot.
enum class JobKind {
  kPlan,
  kDetect,
  kEvaluate,
  kCompress,
  kArtifact,
  kVerify,
  kDemoModel,
  kPrepare,
  kShard,
  kFinalize
};
inline constexpr int kJobKindCount = 10;
std::string_view NameOf(JobKind kind);  // "plan", ..., "demo_model"
std::string_view RpcOf(JobKind kind);   // "PlanCompression", ...

// How a job ended.  kRefused: by admission, whatever the reason.
enum class JobResult { kOk, kFailed, kCancelled, kRefused };
inline constexpr int kJobResultCount = 4;
std::string_view NameOf(JobResult result);
JobResult ResultOf(const absl::Status& status);

// The reasons that count as refusals by admission, as broken integrity and as
// rejected for security, each with the label it is counted under.
enum class ReasonGroup { kAdmission, kIntegrity, kSecurity };
inline constexpr int kReasonGroupCount = 3;
struct CountedReason {
  Reason reason;
  ReasonGroup group;
  std::string_view label;
};
absl::Span<const CountedReason> CountedReasons();

// The stores behind a network, by the scheme of their URIs, and what becomes of
// requests to them: "2xx" .. "5xx", and "error" where no answer came.
absl::Span<const std::string_view> UpstreamSchemes();
absl::Span<const std::string_view> CodeClasses();
// The index in CodeClasses of an HTTP status, or of 0 for none.
size_t CodeClassOf(int http_status);

// One method of a gRPC service, as the conventional grpc_server_* metrics name it.
struct RpcMethod {
  std::string service;  // "linchpin.v1.CompressionService"
  std::string method;   // "CompressModel"
  std::string type;     // "unary", "server_stream", "client_stream", "bidi_stream"
};

// "OK", "Canceled", ..., by gRPC status code 0 .. 16, in the spelling of the
// Prometheus convention.
absl::Span<const std::string_view> GrpcCodeNames();

}  // namespace linchpin
