#include "identity/bearer_token.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/status.h"
#include "format/json.h"

namespace linchpin {
namespace {

constexpr size_t kMaxSubject = 256;

absl::Status Refuse(std::string_view why) {
  return Error(Reason::kUnauthenticated, "bearer token", why, "call again with a valid token");
}

absl::StatusOr<Json> Decode(std::string_view part) {
  std::string text;
  if (!DecodeBase64Url(part, text)) return Refuse("it is not three parts of base64url");
  // The reader's error would quote the token.
  absl::StatusOr<Json> json = ParseJson("token", text, Reason::kUnauthenticated);
  if (!json.ok() || !json->is_object()) return Refuse("a part of it is not a JSON object");
  return json;
}

std::string Text(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

absl::StatusOr<SignatureAlgorithm> AlgorithmOf(const Json& header) {
  if (header.contains("crit")) return Refuse("it has extensions that must be understood");
  const std::string name = Text(header, "alg");
  if (name == "RS256") return SignatureAlgorithm::kRs256;
  if (name == "ES256") return SignatureAlgorithm::kEs256;
  return Refuse("it is signed with neither RS256 nor ES256");
}

// A time in seconds since 1970; nothing if it is absent, NaN if it is none.
std::optional<double> Time(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::nullopt;
  return found->is_number() ? found->get<double>() : std::nan("");
}

absl::Status CheckTimes(const Json& claims, int allowed,
                        std::chrono::system_clock::time_point now) {
  const double at = std::chrono::duration<double>(now.time_since_epoch()).count();
  const std::optional<double> expiry = Time(claims, "exp");
  if (!expiry || !(*expiry > at - allowed)) return Refuse("it has expired or has no expiry");
  for (const char* name : {"nbf", "iat"}) {
    const std::optional<double> begin = Time(claims, name);
    if (begin && !(*begin <= at + allowed)) return Refuse("it is not valid yet");
  }
  return absl::OkStatus();
}

bool IsFor(const Json& claims, const std::string& audience) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (!found->is_array()) return found->is_string() && found->get<std::string>() == audience;
  return std::any_of(found->begin(), found->end(),
                     [&](const Json& one) { return one.is_string() && one == audience; });
}

}  // namespace

absl::StatusOr<std::string> SubjectOf(std::string_view token, const KeySet& keys,
                                      const TokenRules& rules,
                                      std::chrono::system_clock::time_point now) {
  if (token.size() > kMaxTokenBytes) return Refuse("it has more than 16 KiB");
  const size_t first = token.find('.');
  const size_t second = first == token.npos ? first : token.find('.', first + 1);
  if (second == token.npos) return Refuse("it is not three parts of base64url");
  const std::string_view body = token.substr(first + 1, second - first - 1);
  ASSIGN_OR_RETURN(const Json header, Decode(token.substr(0, first)));
  ASSIGN_OR_RETURN(const SignatureAlgorithm algorithm, AlgorithmOf(header));
  std::string signature;
  if (!DecodeBase64Url(token.substr(second + 1), signature)) {
    return Refuse("it is not three parts of base64url");
  }
  // Nothing of the body is looked at before the signature holds.
  if (!keys.Verify(algorithm, Text(header, "kid"), token.substr(0, second), signature)) {
    return Refuse("no key of the issuer made its signature");
  }
  ASSIGN_OR_RETURN(const Json claims, Decode(body));
  if (Text(claims, "iss") != rules.issuer) return Refuse("it is from another issuer");
  if (!IsFor(claims, rules.audience)) return Refuse("it is for another audience");
  RETURN_IF_ERROR(CheckTimes(claims, rules.clock_skew_seconds, now));
  std::string subject = Text(claims, "sub");
  const bool printable = std::all_of(subject.begin(), subject.end(),
                                     [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (subject.empty() || subject.size() > kMaxSubject || !printable) {
    return Refuse("it has no sound subject");
  }
  return subject;
}

}  // namespace linchpin
