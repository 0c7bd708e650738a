// How often and after which pause a request is made again.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace linchpin {

struct RetryPolicy {
  int attempts = 6;  // in a row without progress, the first among them
  std::chrono::milliseconds first_pause{
      200};  // doubles with each failure, drawn between half and whole
  std::chrono::milliseconds longest_pause{20'000};
  std::chrono::milliseconds longest_wanted{60'000};  // a server that wants more has failed
};

// The pauses of one request.  Not thread-safe.
class Backoff {
 public:
  explicit Backoff(const RetryPolicy& policy) : policy_(policy) {}

  // The pause before the next attempt, at least what a Retry-After asked for;
  // nothing if there is to be none.
  std::optional<std::chrono::milliseconds> Next(std::optional<std::chrono::seconds> wanted);
  // There was progress: the failures so far do not count.
  void Reset() { failures_ = 0; }

 private:
  const RetryPolicy policy_;
  int failures_ = 0;
};

// 408, 429, 500, 502, 503 and 504: the same request may succeed later.
bool IsTransientStatus(int http_status);

// The value of a Retry-After header: seconds or a date; nothing for any other text.
// What milliseconds cannot count is cut to what they can.
std::optional<std::chrono::seconds> ParseRetryAfter(const std::string& value);

}  // namespace linchpin
