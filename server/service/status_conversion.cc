#include "service/status_conversion.h"

#include <algorithm>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace linchpin {
namespace {

// gRPC drops trailers above 8 KiB; the message is in them twice, and in one of
// them a byte may take three.
constexpr size_t kMaxMessageLength = 1024;

// Bytes of the UTF-8 sequence that starts `text`; 0 if there is none.
size_t Utf8SequenceBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  const unsigned char second = byte(1);
  const bool refused = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                       (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return refused ? 0 : length;
}

std::string Message(const absl::Status& status) {
  std::string message = ValidUtf8(std::string(status.message()));
  if (message.size() <= kMaxMessageLength) return message;
  size_t end = kMaxMessageLength;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
  return message.substr(0, end) + "...";
}

google::protobuf::Duration ToDuration(std::chrono::milliseconds delay) {
  google::protobuf::Duration duration;
  duration.set_seconds(delay.count() / 1000);
  duration.set_nanos(static_cast<int32_t>(delay.count() % 1000) * 1'000'000);
  return duration;
}

}  // namespace

std::string ValidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8SequenceBytes(text);
    length == 0 ? valid.append("?") : valid.append(text.substr(0, length));
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return valid;
}

std::optional<std::chrono::milliseconds> RetryDelay(Reason reason) {
  if (reason == Reason::kBusy) return std::chrono::milliseconds(1000);
  if (reason == Reason::kDraining) return std::chrono::milliseconds(2000);
  if (reason == Reason::kStorageFailed) return std::chrono::milliseconds(5000);
  return std::nullopt;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const Reason reason = ReasonOf(status);
  const ReasonInfo& info = InfoOf(reason);
  const std::string message = Message(status);

  google::rpc::Status rich;
  rich.set_code(static_cast<int>(info.code));
  rich.set_message(message);
  google::rpc::ErrorInfo error;
  error.set_reason(std::string(info.name));
  error.set_domain(kErrorDomain);
  for (const auto& [key, value] : DetailsOf(status)) {
    (*error.mutable_metadata())[ValidUtf8(key)] = ValidUtf8(value);
  }
  rich.add_details()->PackFrom(error);
  if (const auto delay = RetryDelay(reason)) {
    google::rpc::RetryInfo retry;
    *retry.mutable_retry_delay() = ToDuration(*delay);
    rich.add_details()->PackFrom(retry);
  }
  return {static_cast<grpc::StatusCode>(info.code), message, rich.SerializeAsString()};
}

}  // namespace linchpin
