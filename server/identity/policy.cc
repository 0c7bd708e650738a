#include "identity/policy.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"

namespace linchpin {
namespace {

constexpr std::string_view kEverybody = "*";
constexpr std::string_view kNobody = "anonymous";

absl::Status Refuse(std::string_view where, std::string_view why) {
  return Error(Reason::kOptionInvalid, where, why, "mend the policy file");
}

absl::Status Read(const std::string& where, const Json& value,
                  std::optional<std::vector<std::string>>& texts) {
  texts.emplace();
  if (!value.is_array()) return Refuse(where, "it is not a list of strings");
  for (const Json& element : value) {
    if (!element.is_string() || element.get<std::string>().empty()) {
      return Refuse(where, "it is not a list of strings with something in them");
    }
    texts->push_back(element.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status Read(const std::string& where, const Json& value, std::optional<uint64_t>& number) {
  if (!value.is_number_unsigned()) return Refuse(where, "it is not a whole number of bytes");
  number = value.get<uint64_t>();
  return absl::OkStatus();
}

absl::StatusOr<Grant> ReadGrant(const std::string& where, const Json& entry) {
  if (!entry.is_object()) return Refuse(where, "it is not an object");
  Grant grant;
  for (const auto& [key, value] : entry.items()) {
    const std::string place = fmt::format("{}: {}", where, key);
    absl::Status status = Refuse(place, "there is no such limit");
    if (key == "rpcs") status = Read(place, value, grant.rpcs);
    if (key == "sources") status = Read(place, value, grant.sources);
    if (key == "destinations") status = Read(place, value, grant.destinations);
    if (key == "max_job_bytes") status = Read(place, value, grant.max_job_bytes);
    RETURN_IF_ERROR(status);
  }
  return grant;
}

bool IsIdentity(std::string_view name) {
  for (const std::string_view whole : {kEverybody, kNobody, std::string_view("local")}) {
    if (name == whole) return true;
  }
  for (const std::string_view prefix : {"token:", "certificate:"}) {
    if (name.starts_with(prefix) && name.size() > prefix.size()) return true;
  }
  return false;
}

// A detour that survived, or one that whoever resolves the path next may see.
bool HasDetour(std::string_view path) {
  const std::string lower = absl::AsciiStrToLower(absl::string_view(path.data(), path.size()));
  for (const char* part : {"/../", "/./", "\\", "%2e", "%2f", "%5c"}) {
    if (lower.find(part) != std::string::npos) return true;
  }
  return lower.ends_with("/..") || lower.ends_with("/.");
}

}  // namespace

bool Grant::AllowsRpc(std::string_view method) const {
  return !rpcs || std::find(rpcs->begin(), rpcs->end(), method) != rpcs->end();
}

absl::StatusOr<Policy> Policy::Parse(std::string_view file, std::string_view text) {
  ASSIGN_OR_RETURN(const Json document, ParseJson(file, text, Reason::kOptionInvalid));
  const auto entries = document.is_object() ? document.find("identities") : document.end();
  if (!document.is_object() || document.size() != 1 || entries == document.end() ||
      !entries->is_object()) {
    return Refuse(file, "it is not an object with \"identities\" alone");
  }
  Policy policy;
  for (const auto& [identity, entry] : entries->items()) {
    const std::string where = fmt::format("{}: {}", file, identity);
    if (!IsIdentity(identity)) {
      return Refuse(where, "it is neither token:NAME, certificate:NAME, local, anonymous nor *");
    }
    ASSIGN_OR_RETURN(policy.grants_[identity], ReadGrant(where, entry));
  }
  return policy;
}

const Grant* Policy::Find(std::string_view identity) const {
  auto found = grants_.find(identity);
  if (found == grants_.end() && identity != kNobody) found = grants_.find(kEverybody);
  return found == grants_.end() ? nullptr : &found->second;
}

bool LiesBeneath(std::string_view path, const std::vector<std::string>& prefixes,
                 const std::function<std::string(std::string_view)>& canonical) {
  const std::string place = canonical(path);
  if (HasDetour(place)) return false;
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) {
    std::string root = canonical(prefix);
    while (root.size() > 1 && root.ends_with('/')) root.pop_back();
    return place == root || root == "/" || place.starts_with(root + "/");
  });
}

}  // namespace linchpin
