#include "storage/http/backoff.h"

#include <ctime>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr RetryPolicy kPolicy{.attempts = 5,
                              .first_pause = milliseconds(100),
                              .longest_pause = milliseconds(300),
                              .longest_wanted = milliseconds(5000)};

TEST(Backoff, PausesDoubleUpToALimitAndVary) {
  bool varies = false;
  std::optional<milliseconds> before;
  for (int i = 0; i < 100; ++i) {
    Backoff backoff(kPolicy);
    for (const int whole : {100, 200, 300, 300}) {
      const auto pause = backoff.Next(std::nullopt);
      ASSERT_TRUE(pause.has_value());
      EXPECT_GE(pause->count(), whole / 2);
      EXPECT_LE(pause->count(), whole);
      if (whole == 100) varies = varies || (before && *before != *pause);
      if (whole == 100) before = pause;
    }
    EXPECT_FALSE(backoff.Next(std::nullopt).has_value()) << "the fifth attempt was the last";
  }
  EXPECT_TRUE(varies);
}

TEST(Backoff, WaitsAsLongAsTheServerWants) {
  Backoff backoff(kPolicy);
  EXPECT_EQ(backoff.Next(seconds(5)), milliseconds(5000));
  EXPECT_LE(backoff.Next(seconds(0))->count(), 200);
  EXPECT_FALSE(backoff.Next(seconds(6)).has_value()) << "it wants too much";
}

TEST(Backoff, ProgressForgivesFailures) {
  Backoff backoff(kPolicy);
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(backoff.Next(std::nullopt).has_value());
    backoff.Reset();
  }
}

TEST(Backoff, KnowsWhatMayPass) {
  for (const int status : {408, 429, 500, 502, 503, 504}) EXPECT_TRUE(IsTransientStatus(status));
  for (const int status : {200, 206, 301, 400, 401, 403, 404, 409, 412, 416, 501}) {
    EXPECT_FALSE(IsTransientStatus(status)) << status;
  }
}

// The wait until a year that a server made up was multiplied into an overflow.
TEST(Backoff, ADateThatMillisecondsCannotCountIsWaitedForByNobody) {
  const auto wanted = ParseRetryAfter("Fri, 01 Jan 2147483647 00:00:00 GMT");
  ASSERT_TRUE(wanted.has_value());
  EXPECT_GT(milliseconds(*wanted).count(), 0);
  EXPECT_FALSE(Backoff(kPolicy).Next(wanted).has_value());
}

TEST(Backoff, ReadsRetryAfter) {
  EXPECT_EQ(ParseRetryAfter("7"), seconds(7));
  EXPECT_GT(ParseRetryAfter("99999999999999999999")->count(), 1 << 30);
  EXPECT_EQ(ParseRetryAfter("Fri, 24 May 2013 00:00:00 GMT"), seconds(0)) << "it is over";
  for (const char* text : {"", "soon", "-1"})
    EXPECT_FALSE(ParseRetryAfter(text).has_value()) << text;
}

}  // namespace
}  // namespace linchpin
