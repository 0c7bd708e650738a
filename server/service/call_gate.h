// The gate where gRPC meets it: a processor that gRPC asks before any method,
// of whatever service, hears of a call.
//
// gRPC ends a refused call with code and message alone: it takes no ErrorInfo
// from here.
#pragma once

#include <memory>

#include "grpcpp/grpcpp.h"
#include "grpcpp/security/auth_metadata_processor.h"
#include "service/backend.h"
#include "service/call_origin.h"

namespace linchpin {

// For the credentials of one address; `unix_socket` says what that is.  Both
// references must outlive the server.
std::shared_ptr<grpc::AuthMetadataProcessor> GateProcessor(const Gate& gate, Metrics& metrics,
                                                           bool unix_socket);

// Who makes a call that the gate has let through, and its trace.  The errors of
// Gate::Identify, should a token have expired since.
absl::StatusOr<CallOrigin> OriginOf(const grpc::ServerContextBase& context, const Gate& gate);

}  // namespace linchpin
