// The input is a bearer token.  Only the issuer's own can be let in, and the
// fuzzer does not have its key.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "identity/bearer_token.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& keys =
      *new auto(linchpin::KeySet::Parse("keys", R"({"keys":[{"kty":"EC","crv":"P-256",
                  "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                  "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})"));
  INVARIANT(keys.ok());
  const auto subject =
      linchpin::SubjectOf(std::string_view(reinterpret_cast<const char*>(data), size), *keys,
                          {.issuer = "joe", .audience = "linchpin"},
                          std::chrono::system_clock::from_time_t(1'300'000'000));
  INVARIANT(!subject.ok());
  INVARIANT(linchpin::ReasonOf(subject.status()) == linchpin::Reason::kUnauthenticated);
  return 0;
}
