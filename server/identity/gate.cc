#include "identity/gate.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr std::string_view kBearer = "bearer ";

// Services beside ours, and what the settings call them.
struct OpenService {
  std::string_view name;
  std::string_view prefix;
};
constexpr OpenService kOpenServices[] = {{"health", "/grpc.health."},
                                         {"reflection", "/grpc.reflection."}};

const OpenService* OpenServiceOf(std::string_view method) {
  for (const OpenService& service : kOpenServices) {
    if (method.starts_with(service.prefix)) return &service;
  }
  return nullptr;
}

bool Contains(const std::vector<std::string>& values, std::string_view value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

absl::Status Unauthenticated(std::string_view why) {
  return Error(Reason::kUnauthenticated, "caller", why,
               "show a client certificate or a bearer token that this server takes");
}

absl::Status CheckReach(std::string_view field, std::string_view path,
                        const std::optional<std::vector<std::string>>& prefixes,
                        const Caller::Canonical& canonical) {
  if (path.empty() || !prefixes || LiesBeneath(path, *prefixes, canonical)) return absl::OkStatus();
  return Error(Reason::kPathNotAllowed, field, "the server's policy does not let this caller there",
               "choose a place that the policy gives you");
}

}  // namespace

absl::Status Caller::CheckSource(std::string_view path, const Canonical& canonical) const {
  return grant ? CheckReach("source", path, grant->sources, canonical) : absl::OkStatus();
}

absl::Status Caller::CheckDestination(std::string_view path, const Canonical& canonical) const {
  return grant ? CheckReach("destination", path, grant->destinations, canonical) : absl::OkStatus();
}

absl::Status Caller::CheckJobBytes(uint64_t bytes) const {
  if (!grant || !grant->max_job_bytes || bytes <= *grant->max_job_bytes) return absl::OkStatus();
  const uint64_t limit = *grant->max_job_bytes;
  return WithDetail(Error(Reason::kPolicyRefused, "job",
                          fmt::format("its source has {} bytes and the server's policy gives this "
                                      "caller {}",
                                      bytes, limit),
                          "ask the operator for more"),
                    "limit_bytes", std::to_string(limit));
}

absl::StatusOr<std::unique_ptr<Gate>> Gate::Create(const GateSettings& settings) {
  std::unique_ptr<Gate> gate(new Gate(settings));
  const TokenRules& rules = settings.token_rules;
  const bool rules_given = !rules.issuer.empty() && !rules.audience.empty();
  if (!settings.token_keys.empty() != rules_given ||
      rules.issuer.empty() != rules.audience.empty()) {
    return Error(Reason::kOptionInvalid, "bearer tokens", "keys, issuer or audience is missing",
                 "give --token-keys, --token-issuer and --token-audience together");
  }
  if (rules_given) {
    ASSIGN_OR_RETURN(gate->keys_, ReloadedFile<KeySet>::Open(settings.token_keys, KeySet::Parse));
  }
  if (!settings.policy.empty()) {
    ASSIGN_OR_RETURN(gate->policy_, ReloadedFile<Policy>::Open(settings.policy, Policy::Parse));
  }
  return gate;
}

bool Gate::active() const {
  return keys_ != nullptr || policy_ != nullptr || !settings_.certificate_names.empty();
}

std::optional<std::string> Gate::NameOf(const Presented& presented, const Policy* policy) const {
  std::optional<std::string> first;
  for (const std::string& name : presented.names) {
    if (!settings_.certificate_names.empty() && !Contains(settings_.certificate_names, name)) {
      continue;
    }
    std::string identity = "certificate:" + name;
    if (policy != nullptr && policy->Find(identity) != nullptr) return identity;
    if (!first) first = std::move(identity);
  }
  return first;
}

absl::StatusOr<std::string> Gate::IdentityOf(const Presented& presented) const {
  const auto policy = policy_ == nullptr ? nullptr : policy_->Get();
  if (keys_ != nullptr && !presented.authorizations.empty()) {
    const std::string& value = presented.authorizations.front();
    if (presented.authorizations.size() > 1 ||
        !absl::StartsWithIgnoreCase(value, absl::string_view(kBearer.data(), kBearer.size()))) {
      return Unauthenticated("its authorization is not one bearer token");
    }
    ASSIGN_OR_RETURN(const std::string subject,
                     SubjectOf(std::string_view(value).substr(kBearer.size()), *keys_->Get(),
                               settings_.token_rules, std::chrono::system_clock::now()));
    return "token:" + subject;
  }
  if (auto name = NameOf(presented, policy.get())) return *std::move(name);
  if (presented.unix_socket) return std::string("local");
  const bool asked = keys_ != nullptr || !settings_.certificate_names.empty();
  if (asked) return Unauthenticated("it shows neither a known certificate nor a bearer token");
  return std::string("anonymous");
}

absl::StatusOr<Caller> Gate::Identify(const Presented& presented) const {
  Caller caller;
  ASSIGN_OR_RETURN(caller.identity, IdentityOf(presented));
  if (policy_ == nullptr) return caller;
  const Grant* const grant = policy_->Get()->Find(caller.identity);
  // Nobody in particular, and nothing for nobody: that is not known, not forbidden.
  if (grant == nullptr && caller.identity == "anonymous") return Unauthenticated("it is not known");
  caller.grant = grant != nullptr ? *grant : Grant{.rpcs = std::vector<std::string>()};
  return caller;
}

absl::Status Gate::Check(std::string_view method, const Presented& presented) const {
  const OpenService* const open = OpenServiceOf(method);
  if (open == nullptr) return Admit(method, presented).status();
  if (Contains(settings_.open, open->name)) return absl::OkStatus();
  return Identify(presented).status();
}

absl::StatusOr<Caller> Gate::Admit(std::string_view method, const Presented& presented) const {
  ASSIGN_OR_RETURN(Caller caller, Identify(presented));
  const std::string_view name = method.substr(method.rfind('/') + 1);
  if (!caller.grant || caller.grant->AllowsRpc(name)) return caller;
  return Error(Reason::kPolicyRefused, name, "the server's policy does not let this caller call it",
               "ask the operator for it");
}

}  // namespace linchpin
