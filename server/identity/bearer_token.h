// Bearer tokens: a JSON Web Token (RFC 7519) that one issuer signed for us.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "identity/key_set.h"

namespace linchpin {

// What a token must say.
struct TokenRules {
  std::string issuer;    // its "iss"
  std::string audience;  // its "aud", or one of them
  int clock_skew_seconds = 60;
};

inline constexpr size_t kMaxTokenBytes = 16 << 10;

// The token's subject, 1 to 256 printable characters.  UNAUTHENTICATED, without
// a word of the token's content, for anything but a compact JWS of RS256 or
// ES256 by a key of the set, with the issuer and audience of the rules, an
// expiry to come ("exp"), and nothing that is still to begin ("nbf", "iat").
// No other algorithm is known here, "none" and those with a shared secret
// least of all; a critical extension ("crit") is refused.
absl::StatusOr<std::string> SubjectOf(std::string_view token, const KeySet& keys,
                                      const TokenRules& rules,
                                      std::chrono::system_clock::time_point now);

}  // namespace linchpin
