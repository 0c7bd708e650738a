#include "service/call_origin.h"

#include <algorithm>

namespace linchpin {
namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16, kLength = 55;

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsId(std::string_view text) {
  return IsLowerHex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

}  // namespace

std::string TraceOf(std::string_view traceparent) {
  // Later versions may append fields; "ff" is forbidden.
  const std::string_view version = traceparent.substr(0, 2);
  const bool longer =
      traceparent.size() > kLength && version != "00" && traceparent[kLength] == '-';
  if (traceparent.size() != kLength && !longer) return {};
  const std::string_view trace = traceparent.substr(3, kTraceDigits);
  const std::string_view span = traceparent.substr(36, kSpanDigits);
  const bool dashes = traceparent[2] == '-' && traceparent[35] == '-' && traceparent[52] == '-';
  const bool sound = dashes && IsLowerHex(version) && version != "ff" && IsId(trace) &&
                     IsId(span) && IsLowerHex(traceparent.substr(53, 2));
  return sound ? std::string(trace) : std::string();
}

}  // namespace linchpin
