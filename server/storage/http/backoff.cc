#include "storage/http/backoff.h"

#include <curl/curl.h>

#include <algorithm>
#include <ctime>
#include <random>

namespace linchpin {

using std::chrono::milliseconds;
using std::chrono::seconds;
namespace {

constexpr seconds kLongestWait = seconds::max() / 1000;  // milliseconds can count it

}  // namespace

std::optional<milliseconds> Backoff::Next(std::optional<seconds> wanted) {
  if (++failures_ >= policy_.attempts) return std::nullopt;
  if (wanted && *wanted > policy_.longest_wanted) return std::nullopt;
  const milliseconds whole =
      std::min(policy_.longest_pause, policy_.first_pause * (1 << std::min(failures_ - 1, 16)));
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::uniform_int_distribution<milliseconds::rep> draw(whole.count() / 2, whole.count());
  return std::max<milliseconds>(milliseconds(draw(random)), wanted.value_or(seconds(0)));
}

bool IsTransientStatus(int http_status) {
  constexpr int kTransient[] = {408, 429, 500, 502, 503, 504};
  return std::find(std::begin(kTransient), std::end(kTransient), http_status) !=
         std::end(kTransient);
}

std::optional<seconds> ParseRetryAfter(const std::string& value) {
  if (value.empty()) return std::nullopt;
  if (value.find_first_not_of("0123456789") == std::string::npos) {
    return value.size() > 9 ? kLongestWait : seconds(std::stol(value));
  }
  const time_t date = curl_getdate(value.c_str(), nullptr);
  if (date < 0) return std::nullopt;
  return std::clamp(seconds(date - time(nullptr)), seconds(0), kLongestWait);
}

}  // namespace linchpin
