#include "metrics/labels.h"

#include <algorithm>

namespace linchpin {

std::string_view NameOf(JobKind kind) {
  constexpr std::string_view kNames[kJobKindCount] = {
      "plan",   "detect",     "evaluate", "compress", "artifact",
      "verify", "demo_model", "prepare",  "shard",    "finalize"};
  return kNames[static_cast<int>(kind)];
}

std::string_view RpcOf(JobKind kind) {
  constexpr std::string_view kRpcs[kJobKindCount] = {
      "PlanCompression",  "DetectSuperWeights", "EvaluateCompression", "CompressModel",
      "CompressArtifact", "VerifyArtifact",     "CreateDemoModel",     "PrepareCompression",
      "CompressShard",    "FinalizeCompression"};
  return kRpcs[static_cast<int>(kind)];
}

std::string_view NameOf(JobResult result) {
  constexpr std::string_view kNames[kJobResultCount] = {"ok", "failed", "cancelled", "refused"};
  return kNames[static_cast<int>(result)];
}

JobResult ResultOf(const absl::Status& status) {
  if (status.ok()) return JobResult::kOk;
  const Reason reason = ReasonOf(status);
  if (reason == Reason::kCancelled) return JobResult::kCancelled;
  for (const CountedReason& counted : CountedReasons()) {
    if (counted.group == ReasonGroup::kAdmission && counted.reason == reason) {
      return JobResult::kRefused;
    }
  }
  return JobResult::kFailed;
}

absl::Span<const CountedReason> CountedReasons() {
  static constexpr CountedReason kCounted[] = {
      {Reason::kBusy, ReasonGroup::kAdmission, "busy"},
      {Reason::kDraining, ReasonGroup::kAdmission, "draining"},
      {Reason::kExceedsServerLimit, ReasonGroup::kAdmission, "exceeds_server_limit"},
      {Reason::kDigestMismatch, ReasonGroup::kIntegrity, "digest_mismatch"},
      {Reason::kSourceChanged, ReasonGroup::kIntegrity, "source_changed"},
      {Reason::kVerifyMismatch, ReasonGroup::kIntegrity, "verify_mismatch"},
      {Reason::kPathNotAllowed, ReasonGroup::kSecurity, "path_not_allowed"},
      {Reason::kFormatRefused, ReasonGroup::kSecurity, "format_refused"},
      {Reason::kUnauthenticated, ReasonGroup::kSecurity, "unauthenticated"},
      {Reason::kPolicyRefused, ReasonGroup::kSecurity, "policy_refused"},
  };
  return kCounted;
}

absl::Span<const std::string_view> UpstreamSchemes() {
  static constexpr std::string_view kSchemes[] = {"s3", "gs", "https", "hf"};
  return kSchemes;
}

absl::Span<const std::string_view> CodeClasses() {
  static constexpr std::string_view kClasses[] = {"2xx", "3xx", "4xx", "5xx", "error"};
  return kClasses;
}

size_t CodeClassOf(int http_status) {
  const bool known = http_status >= 200 && http_status < 600;
  return known ? static_cast<size_t>(http_status / 100 - 2) : CodeClasses().size() - 1;
}

absl::Span<const std::string_view> GrpcCodeNames() {
  static constexpr std::string_view kNames[] = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  return kNames;
}

}  // namespace linchpin
