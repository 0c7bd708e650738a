// Which addresses a server may connect to for its callers: public ones, and
// those that its operator allowed.  Asked when a socket is opened, with the
// address that it will connect to, so that no name server can change the answer.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace linchpin {

class AddressRule {
 public:
  // `allowed`: addresses and networks, "10.0.0.0/8", "127.0.0.1", "fd00::/8".
  // OPTION_INVALID for what is neither.
  static absl::StatusOr<AddressRule> Create(const std::vector<std::string>& allowed);

  // False for everything that is not globally reachable by the registries of
  // IANA (private, loopback, link-local and with it the clouds' metadata,
  // multicast, reserved), also where it hides in an IPv6 address, unless allowed.
  bool Allows(const sockaddr& address) const;

 private:
  // IPv4 addresses in their IPv4-mapped form.
  using Bytes = std::array<uint8_t, 16>;
  struct Network {
    Bytes bytes{};
    int bits = 0;
    bool Holds(const Bytes& address) const;
  };
  static bool Parse(std::string_view text, Network& network);
  static const std::vector<Network>& NotPublic();

  std::vector<Network> allowed_;
};

}  // namespace linchpin
