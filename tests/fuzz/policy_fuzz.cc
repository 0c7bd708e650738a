// The input is a policy file, or a set of keys.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "identity/key_set.h"
#include "identity/policy.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto keys = linchpin::KeySet::Parse("fuzz", text);
  INVARIANT(!keys.ok() || keys->size() > 0);
  if (keys.ok()) INVARIANT(!keys->Verify(linchpin::SignatureAlgorithm::kEs256, "", text, text));
  const auto policy = linchpin::Policy::Parse("fuzz", text);
  if (!policy.ok()) {
    INVARIANT(linchpin::ReasonOf(policy.status()) == linchpin::Reason::kOptionInvalid);
    return 0;
  }
  const linchpin::Grant* grant = policy->Find("token:somebody");
  if (grant == nullptr || !grant->sources) return 0;
  const auto same = [](std::string_view path) { return std::string(path); };
  for (const std::string& prefix : *grant->sources) {
    // Nothing with a way up in it lies beneath anything.
    INVARIANT(!linchpin::LiesBeneath(prefix + "/../x", *grant->sources, same));
  }
  return 0;
}
