// The one conversion of our errors to gRPC's.
//
// The status travels as google.rpc.Status in `grpc-status-details-bin`:
// ErrorInfo with the reason, and RetryInfo where calling again will help.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/status.h"
#include "grpcpp/grpcpp.h"

namespace linchpin {

inline constexpr char kErrorDomain[] = "linchpin";
// The trailer that tells gRPC's own retries when to come back.
inline constexpr char kRetryPushback[] = "grpc-retry-pushback-ms";

grpc::Status ToGrpcStatus(const absl::Status& status);

// When to call again; nothing where that does not help.
std::optional<std::chrono::milliseconds> RetryDelay(Reason reason);

// Converts the status that ends the call of `context`; sets the trailer.
template <class Context>
grpc::Status EndCall(Context& context, const absl::Status& status) {
  if (const auto delay = RetryDelay(ReasonOf(status))) {
    context.AddTrailingMetadata(kRetryPushback, std::to_string(delay->count()));
  }
  return ToGrpcStatus(status);
}

// `text` with what is not UTF-8 replaced by '?': protobuf takes nothing else.
std::string ValidUtf8(std::string_view text);

}  // namespace linchpin
