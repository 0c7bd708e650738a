// What each caller may do, from a file that the operator keeps.
//
// A JSON object of identities, each with what it may do; "*" is every identity
// but "anonymous" that has no entry of its own, and what an entry leaves out is
// not limited:
//   {"identities": {
//      "token:pipeline@example.org": {"rpcs": ["PlanCompression", "CompressModel"],
//                                     "sources": ["/models", "s3://models/team-a"],
//                                     "destinations": ["/output/team-a"],
//                                     "max_job_bytes": 200000000000},
//      "certificate:spiffe://cluster/ns/ml/sa/reader": {"rpcs": ["VerifyArtifact"]}}}
// An identity is "token:" and a subject, "certificate:" and a subject
// alternative name, "local" for who reaches the server's unix socket, or
// "anonymous" for who shows nothing.  Who has no entry may do nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace linchpin {

// What one identity may do; nothing in a list or limit: everything.
struct Grant {
  std::optional<std::vector<std::string>> rpcs;          // method names of our service
  std::optional<std::vector<std::string>> sources;       // where it may read
  std::optional<std::vector<std::string>> destinations;  // where it may write
  std::optional<uint64_t> max_job_bytes;                 // of a job's source

  bool AllowsRpc(std::string_view method) const;
};

// Immutable; thread-safe.
class Policy {
 public:
  // OPTION_INVALID, naming the entry, for anything but the form above: a
  // misspelt limit would be none.
  static absl::StatusOr<Policy> Parse(std::string_view file, std::string_view text);

  // Null for who may do nothing.
  const Grant* Find(std::string_view identity) const;

 private:
  std::map<std::string, Grant, std::less<>> grants_;
};

// Whether `path` is one of `prefixes` or lies beneath it: "/models" holds
// "/models/a", not "/models-b".  `canonical` takes the detours out of a path;
// what still has ".." or an encoded dot or slash is beneath nothing.
bool LiesBeneath(std::string_view path, const std::vector<std::string>& prefixes,
                 const std::function<std::string(std::string_view)>& canonical);

}  // namespace linchpin
