// What the command line says when something fails, and the codes it exits with.
//
// Errors of the server and of the client travel as one type, grpc::Status with
// google.rpc.ErrorInfo in its details, and are printed by one function.
#pragma once

#include <string>
#include <string_view>

#include "grpcpp/support/status.h"

namespace linchpin {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitMismatch = 3;    // verify: not what its manifest says
inline constexpr int kExitPermanent = 42;  // no retry will mend it
inline constexpr int kExitTryAgain = 75;   // busy, draining, unreachable

// The exit code of an outcome; kExitFailed where neither of the last two is sure.
int ExitCodeOf(const grpc::Status& status);

// ErrorInfo.reason of the status, else the name of its code, e.g. "UNAVAILABLE".
std::string ReasonOf(const grpc::Status& status);

// True if the status carries an ErrorInfo, so that its message stands alone.
bool HasReason(const grpc::Status& status);

// An error of the client's own with message `what: why: remedy`.
grpc::Status LocalError(grpc::StatusCode code, std::string_view reason, std::string_view what,
                        std::string_view why, std::string_view remedy);

// The same for a failed system call on `path`; the code follows `error_number`.
grpc::Status SystemError(std::string_view path, int error_number, std::string_view remedy);

// `error: WHAT: WHY: REMEDY [REASON]` in one line.  A status without a reason
// comes from the connection: `where`, the endpoint, is then named as WHAT.
std::string ErrorLine(const grpc::Status& status, std::string_view where);

}  // namespace linchpin
