// The input is what a store answers: XML, and the texts of headers.  Nothing comes out
// that did not stand there: no entity is expanded, no text is made longer.
#include <cctype>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>

#include "storage/http/backoff.h"
#include "storage/s3/s3_xml.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

namespace {

void CheckListing(const std::string& text) {
  const auto page = linchpin::ParseListing(text);
  if (!page) return;
  size_t length = page->next.size();
  for (const auto& object : page->objects) {
    INVARIANT(!object.key.empty() && object.size < 1'000'000'000'000'000'000);
    length += object.key.size();
  }
  INVARIANT(length <= text.size());
}

void CheckErrorCode(const std::string& text) {
  const std::string code = linchpin::ErrorCodeOf(text);
  INVARIANT(code.size() <= 100);
  for (const char c : code) {
    INVARIANT(c == '.' || (std::isalnum(static_cast<unsigned char>(c)) != 0));
  }
}

void CheckTimes(const std::string& text) {
  if (const auto time = linchpin::ParseIsoTime(text)) {
    const time_t seconds = std::chrono::system_clock::to_time_t(*time);
    std::tm utc = {};
    INVARIANT(gmtime_r(&seconds, &utc) != nullptr);
  }
  if (const auto wait = linchpin::ParseRetryAfter(text)) {
    const linchpin::RetryPolicy policy;
    const auto pause = linchpin::Backoff(policy).Next(wait);
    INVARIANT(pause.has_value() ==
              (*wait >= std::chrono::seconds(0) && *wait <= policy.longest_wanted));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(TextOf(data, size));
  CheckListing(text);
  CheckErrorCode(text);
  CheckTimes(text);
  for (const auto& found : {linchpin::ParseUploadId(text), linchpin::ParseCopiedETag(text)}) {
    if (found) INVARIANT(!found->empty() && found->size() <= text.size());
  }
  (void)linchpin::IsCompletion(text);
  if (const auto role = linchpin::ParseAssumedRole(text)) {
    INVARIANT(!role->access_key.empty() && !role->secret_key.empty());
    INVARIANT(role->access_key.size() + role->secret_key.size() <= text.size());
  }
  return 0;
}
