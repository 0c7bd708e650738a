// The input is what a store answers: XML, and the texts of headers.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>

#include "storage/http/backoff.h"
#include "storage/s3/s3_xml.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto page = linchpin::ParseListing(text)) {
    for (const auto& object : page->objects) INVARIANT(!object.key.empty());
  }
  const std::string code = linchpin::ErrorCodeOf(text);
  INVARIANT(code.size() <= 100);
  for (const char c : code)
    INVARIANT(c == '.' || (std::isalnum(static_cast<unsigned char>(c)) != 0));
  linchpin::IsCompletion(text);
  linchpin::ParseUploadId(text);
  linchpin::ParseCopiedETag(text);
  if (const auto role = linchpin::ParseAssumedRole(text)) {
    INVARIANT(!role->access_key.empty() && !role->secret_key.empty());
  }
  linchpin::ParseIsoTime(text);
  if (const auto wait = linchpin::ParseRetryAfter(text)) INVARIANT(wait->count() >= 0);
  return 0;
}
