#include "service/listen_address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <charconv>

#include "base/status.h"

namespace linchpin {
namespace {

constexpr std::string_view kUnix = "unix:";
constexpr size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;

absl::Status Refuse(std::string_view text, std::string_view why) {
  return Error(Reason::kOptionInvalid, std::string("--listen ").append(text), why,
               "give HOST:PORT, [IPV6]:PORT or unix:/PATH");
}

bool IsPort(std::string_view text) {
  int port = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 0 && port <= 65535;
}

}  // namespace

bool ListenAddress::local() const {
  if (is_unix || host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::StatusOr<ListenAddress> ListenAddress::Parse(std::string_view text) {
  ListenAddress address{.text = std::string(text)};
  if (text.starts_with(kUnix)) {
    const std::string_view path = text.substr(kUnix.size());
    if (!path.starts_with('/')) return Refuse(text, "the socket's path is not absolute");
    if (path.size() > kMaxSocketPath) return Refuse(text, "the socket's path is too long");
    address.is_unix = true;
    return address;
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !IsPort(text.substr(colon + 1))) {
    return Refuse(text, "it has no port from 0 to 65535");
  }
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || (!bracketed && host.find_first_of(":[]/") != std::string_view::npos)) {
    return Refuse(text, "it has no host");
  }
  address.host = std::string(host);
  return address;
}

}  // namespace linchpin
