// The gate where gRPC meets it: a processor that gRPC asks before any method,
// of whatever service, hears of a call.
//
// gRPC ends a call that the processor refuses with code and message alone and
// takes no ErrorInfo from it.  So the processor lets calls of our own service
// through, each of whose methods begins with OriginOf: the same question, whose
// answer can say why.  There is no CallOrigin without it, and no job without that.
#pragma once

#include <memory>
#include <string_view>

#include "grpcpp/grpcpp.h"
#include "grpcpp/security/auth_metadata_processor.h"
#include "service/backend.h"
#include "service/call_origin.h"

namespace linchpin {

// For the credentials of one address; `unix_socket` says what that is.  Both
// references must outlive the server.
std::shared_ptr<grpc::AuthMetadataProcessor> GateProcessor(const Gate& gate, Metrics& metrics,
                                                           bool unix_socket);

// Whether the caller may call `rpc`, a method of our service: then who that is, and
// the call's trace.  The errors of Gate::Check, which it counts.
absl::StatusOr<CallOrigin> OriginOf(const grpc::ServerContextBase& context, const Backend& backend,
                                    std::string_view rpc);

}  // namespace linchpin
