// The input is a JSON text.  What is let through the library would let through too, and
// what is not has one of the faults that we refuse beside its own.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "format/json.h"
#include "tests/fuzz/allocated_bytes.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

namespace {

using linchpin::Json;

int DepthOf(const Json& json) {
  int deepest = 0;
  if (!json.is_structured()) return 0;
  for (const Json& member : json) deepest = std::max(deepest, DepthOf(member));
  return deepest + 1;
}

// Ours alone.
bool IsRefusedByUs(std::string_view message) {
  for (const char* why : {"duplicate key", "nested deeper", "a NUL byte", "a byte order mark"}) {
    if (message.find(why) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = TextOf(data, size);
  const AllocatedBytes allocated;
  const auto json = linchpin::ParseJson("fuzz", text, linchpin::Reason::kConfigInvalid);
  INVARIANT(allocated.count() <= (uint64_t{1} << 16) + 512 * size);
  if (!json.ok()) {
    const std::string message(json.status().message());
    INVARIANT(linchpin::ReasonOf(json.status()) == linchpin::Reason::kConfigInvalid);
    INVARIANT(!Json::accept(text) || IsRefusedByUs(message));
    return 0;
  }
  INVARIANT(Json::accept(text));
  INVARIANT(DepthOf(*json) <= linchpin::kMaxJsonDepth);
  const auto again = linchpin::ParseJson("again", json->dump(), linchpin::Reason::kConfigInvalid);
  INVARIANT(again.ok() && *again == *json);
  return 0;
}
