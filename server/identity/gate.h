// The one decision about who may call what: in front of every method of the
// server, those of generated services included.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "identity/bearer_token.h"
#include "identity/key_set.h"
#include "identity/policy.h"
#include "identity/settings_file.h"

namespace linchpin {

// What a call shows of its caller.
struct Presented {
  bool unix_socket = false;
  // Subject alternative names of a certificate that the handshake has verified.
  std::vector<std::string> names;
  // The values of `authorization`.
  std::vector<std::string> authorizations;
};

// Who calls, and what it may do.
struct Caller {
  std::string identity = "anonymous";  // as in a policy
  std::optional<Grant> grant;          // nothing: no policy, everything

  // PATH_NOT_ALLOWED where the grant does not reach; `canonical` as for
  // LiesBeneath.  An empty path is nobody's concern.
  using Canonical = std::function<std::string(std::string_view)>;
  absl::Status CheckSource(std::string_view path, const Canonical& canonical) const;
  absl::Status CheckDestination(std::string_view path, const Canonical& canonical) const;
  // POLICY_REFUSED for a job whose source has more bytes than the grant.
  absl::Status CheckJobBytes(uint64_t bytes) const;
};

struct GateSettings {
  // Of client certificates, one of which a caller must show; empty: any that
  // the handshake took.
  std::vector<std::string> certificate_names;
  std::string token_keys;  // file with a JSON Web Key Set; empty: no tokens
  TokenRules token_rules;
  std::string policy;  // file; empty: whoever is let in may do everything
  // "health" and "reflection": services that answer to anybody.
  std::vector<std::string> open = {"health"};
};

// Thread-safe.  Key set and policy are read again when their files change.
class Gate {
 public:
  // OPTION_INVALID for a file that is wrong or rules that are missing.
  static absl::StatusOr<std::unique_ptr<Gate>> Create(const GateSettings& settings);

  // False if nothing of the above was asked for: then everybody is let in, as
  // far as the handshake lets them.
  bool active() const;

  // Who that is: UNAUTHENTICATED for who shows nothing that counts, and for a
  // token that is none, whatever else it shows.
  absl::StatusOr<Caller> Identify(const Presented& presented) const;

  // Whether the caller may call `method`, "/package.Service/Method":
  // UNAUTHENTICATED, or POLICY_REFUSED.  Health and reflection are open to
  // whoever is identified, and to others as the settings say.
  absl::Status Check(std::string_view method, const Presented& presented) const;
  // The same of a method of no open service, by its whole or its last name, and who
  // calls.
  absl::StatusOr<Caller> Admit(std::string_view method, const Presented& presented) const;

 private:
  explicit Gate(const GateSettings& settings) : settings_(settings) {}
  absl::StatusOr<std::string> IdentityOf(const Presented& presented) const;
  // The subject alternative name that counts, if there is one.
  std::optional<std::string> NameOf(const Presented& presented, const Policy* policy) const;

  const GateSettings settings_;
  std::unique_ptr<ReloadedFile<KeySet>> keys_;
  std::unique_ptr<ReloadedFile<Policy>> policy_;
};

}  // namespace linchpin
