#include "client/errors.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fmt/format.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace linchpin {
namespace {

using grpc::StatusCode;

// In the order of the codes' numbers.
constexpr std::array<std::string_view, 17> kCodeNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

std::string ErrorInfoReason(const grpc::Status& status) {
  google::rpc::Status rich;
  if (status.error_details().empty() || !rich.ParseFromString(status.error_details())) return {};
  for (const auto& detail : rich.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) return info.reason();
  }
  return {};
}

std::string OneLine(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  return text;
}

std::pair<StatusCode, std::string_view> CodeOfErrno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return {StatusCode::NOT_FOUND, "SOURCE_NOT_FOUND"};
    case EACCES:
    case EPERM:
      return {StatusCode::PERMISSION_DENIED, "PATH_NOT_ALLOWED"};
    case EEXIST:
    case ENOTEMPTY:
      return {StatusCode::ALREADY_EXISTS, "OUTPUT_EXISTS"};
    default:
      return {StatusCode::UNKNOWN, "STORAGE_FAILED"};
  }
}

}  // namespace

int ExitCodeOf(const grpc::Status& status) {
  switch (status.error_code()) {
    case StatusCode::OK:
      return kExitDone;
    case StatusCode::INVALID_ARGUMENT:
    case StatusCode::NOT_FOUND:
    case StatusCode::ALREADY_EXISTS:
    case StatusCode::PERMISSION_DENIED:
    case StatusCode::UNAUTHENTICATED:
    case StatusCode::FAILED_PRECONDITION:
    case StatusCode::OUT_OF_RANGE:
    case StatusCode::UNIMPLEMENTED:
      return kExitPermanent;
    case StatusCode::RESOURCE_EXHAUSTED:
    case StatusCode::UNAVAILABLE:
    case StatusCode::ABORTED:
      return kExitTryAgain;
    default:
      return kExitFailed;
  }
}

bool HasReason(const grpc::Status& status) { return !ErrorInfoReason(status).empty(); }

std::string ReasonOf(const grpc::Status& status) {
  std::string reason = ErrorInfoReason(status);
  if (!reason.empty()) return OneLine(std::move(reason));
  const auto code = static_cast<size_t>(status.error_code());
  return std::string(code < kCodeNames.size() ? kCodeNames[code] : "UNKNOWN");
}

grpc::Status LocalError(StatusCode code, std::string_view reason, std::string_view what,
                        std::string_view why, std::string_view remedy) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("linchpin");
  google::rpc::Status rich;
  rich.set_code(code);
  rich.set_message(OneLine(remedy.empty() ? fmt::format("{}: {}", what, why)
                                          : fmt::format("{}: {}: {}", what, why, remedy)));
  rich.add_details()->PackFrom(info);
  return {code, rich.message(), rich.SerializeAsString()};
}

grpc::Status SystemError(std::string_view path, int error_number, std::string_view remedy) {
  const auto [code, reason] = CodeOfErrno(error_number);
  return LocalError(code, reason, path, std::strerror(error_number), remedy);
}

std::string ErrorLine(const grpc::Status& status, std::string_view where) {
  std::string message = status.error_message();
  // What refuses a caller before its call is read sends code and message alone.
  const bool refused = status.error_code() == StatusCode::UNAUTHENTICATED ||
                       status.error_code() == StatusCode::PERMISSION_DENIED;
  if (!HasReason(status) && !(refused && !message.empty())) {
    message = fmt::format("{}: {}: check that a linchpin-server listens there and speaks {}", where,
                          message.empty() ? "the call failed" : message,
                          "TLS or plaintext as this call does");
  }
  return fmt::format("error: {} [{}]", OneLine(std::move(message)), ReasonOf(status));
}

}  // namespace linchpin
