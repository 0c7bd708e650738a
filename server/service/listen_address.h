// Where the server listens, and whether plaintext may be spoken there.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace linchpin {

// "unix:/path", or "host:port" with the host in brackets if it is IPv6.
struct ListenAddress {
  std::string text;  // as given, and as gRPC takes it
  bool is_unix = false;
  std::string host;  // empty for a unix socket
  // Nobody beyond this machine reaches it: a unix socket, 127.0.0.0/8, ::1, localhost.
  bool local() const;

  // OPTION_INVALID for anything else.
  static absl::StatusOr<ListenAddress> Parse(std::string_view text);
};

}  // namespace linchpin
