#include "storage/http/address_rule.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace linchpin {
namespace {

// IANA's special-purpose registries (RFC 6890 and its updates), where they say
// "globally reachable: false", and multicast.  2001::/23 and 2002::/16 hide IPv4.
constexpr const char* kNotPublic[] = {
    "0.0.0.0/8",      "10.0.0.0/8",        "100.64.0.0/10",   "127.0.0.0/8",     "169.254.0.0/16",
    "172.16.0.0/12",  "192.0.0.0/24",      "192.0.2.0/24",    "192.31.196.0/24", "192.52.193.0/24",
    "192.88.99.0/24", "192.168.0.0/16",    "192.175.48.0/24", "198.18.0.0/15",   "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4",       "240.0.0.0/4",     "2001::/23",       "2001:db8::/32",
    "2002::/16",      "2620:4f:8000::/48", "3fff::/20"};
constexpr const char* kGlobalUnicast = "2000::/3";
constexpr const char* kMapped = "::ffff:0:0/96";
constexpr const char* kTranslated = "64:ff9b::/96";  // NAT64, RFC 6052
constexpr int kMappedBits = 96;

}  // namespace

bool AddressRule::Network::Holds(const Bytes& address) const {
  const size_t whole = static_cast<size_t>(bits) / 8;
  if (!std::equal(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(whole), address.begin())) {
    return false;
  }
  const int rest = bits % 8;
  return rest == 0 || ((bytes[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

bool AddressRule::Parse(std::string_view text, Network& network) {
  const size_t slash = std::min(text.find('/'), text.size());
  const std::string address(text.substr(0, slash));
  const std::string bits(text.substr(std::min(slash + 1, text.size())));
  const bool is_ip4 = address.find(':') == std::string::npos;
  if (is_ip4) {
    network.bytes[10] = network.bytes[11] = 0xff;
    if (inet_pton(AF_INET, address.c_str(), network.bytes.data() + 12) != 1) return false;
  } else if (inet_pton(AF_INET6, address.c_str(), network.bytes.data()) != 1) {
    return false;
  }
  const int most = is_ip4 ? 32 : 128;
  int given = most;
  if (slash < text.size()) {
    if (bits.empty() || bits.size() > 3 || bits.find_first_not_of("0123456789") != bits.npos) {
      return false;
    }
    given = std::stoi(bits);
  }
  network.bits = given + (is_ip4 ? kMappedBits : 0);
  return given <= most;
}

const std::vector<AddressRule::Network>& AddressRule::NotPublic() {
  static const auto& networks = *[] {
    auto* const parsed = new std::vector<Network>;
    for (const char* text : kNotPublic) Parse(text, parsed->emplace_back());
    return parsed;
  }();
  return networks;
}

absl::StatusOr<AddressRule> AddressRule::Create(const std::vector<std::string>& allowed) {
  AddressRule rule;
  for (const std::string& text : allowed) {
    if (!Parse(text, rule.allowed_.emplace_back())) {
      return Error(Reason::kOptionInvalid, text, "neither an address nor a network",
                   "give it as 10.0.0.0/8 or fd00::/8");
    }
  }
  return rule;
}

bool AddressRule::Allows(const sockaddr& address) const {
  Bytes bytes{};
  if (address.sa_family == AF_INET) {
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(bytes.data() + 12, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
  } else if (address.sa_family == AF_INET6) {
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, 16);
  } else {
    return false;
  }
  const auto holds = [&bytes](const Network& network) { return network.Holds(bytes); };
  if (std::any_of(allowed_.begin(), allowed_.end(), holds)) return true;
  Network global, mapped, translated;
  Parse(kGlobalUnicast, global);
  Parse(kMapped, mapped);
  Parse(kTranslated, translated);
  if (translated.Holds(bytes)) {  // judged by the IPv4 address that it stands for
    std::copy(mapped.bytes.begin(), mapped.bytes.begin() + 12, bytes.begin());
  }
  if (!global.Holds(bytes) && !mapped.Holds(bytes)) return false;
  return std::none_of(NotPublic().begin(), NotPublic().end(), holds);
}

}  // namespace linchpin
