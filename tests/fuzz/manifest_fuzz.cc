// The input is a linchpin.json, as verify finds it.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "artifact/manifest_claims.h"
#include "base/status.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto claims = linchpin::ReadManifestClaims(
      "fuzz", std::string_view(reinterpret_cast<const char*>(data), size));
  if (!claims.ok()) {
    INVARIANT(linchpin::ReasonOf(claims.status()) == linchpin::Reason::kConfigInvalid);
    return 0;
  }
  std::set<std::string> names;
  for (const linchpin::FileRecord& file : claims->files) {
    INVARIANT(names.insert(file.name).second && file.sha256.size() == 64);
  }
  for (const linchpin::TensorClaim& tensor : claims->tensors) {
    INVARIANT(!tensor.name.empty() && tensor.sha256.size() == 64);
  }
  for (const linchpin::KeptWeight& kept : claims->kept) {
    INVARIANT(kept.weight.position.row >= 0 && kept.weight.position.column >= 0);
    INVARIANT(std::isfinite(kept.weight.value) && std::isfinite(kept.stored_value));
  }
  return 0;
}
