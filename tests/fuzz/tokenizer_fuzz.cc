// The input is a tokenizer.json and, after a NUL byte, a text to encode.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/tokenizer.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  const auto tokenizer = linchpin::Tokenizer::Parse("fuzz", input.substr(0, nul));
  if (!tokenizer.ok() || nul == std::string_view::npos) return 0;
  const auto ids = tokenizer->Encode(input.substr(nul + 1));
  if (!ids.ok()) return 0;
  for (const int32_t id : *ids) INVARIANT(id >= 0);
  INVARIANT(*ids == *tokenizer->Encode(input.substr(nul + 1)));
  return 0;
}
