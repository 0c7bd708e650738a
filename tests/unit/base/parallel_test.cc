#include "base/parallel.h"

#include <atomic>
#include <chrono>
#include <latch>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(ForEachIndexTest, EveryIndexOnce) {
  for (const int threads : {0, 1, 2, 7}) {
    std::vector<std::atomic<int>> seen(100);
    EXPECT_TRUE(ForEachIndex(threads, seen.size(), [&](size_t i) {
                  ++seen[i];
                  return absl::OkStatus();
                }).ok());
    for (const auto& count : seen) EXPECT_EQ(count, 1);
  }
}

TEST(ForEachIndexTest, NothingToDo) {
  EXPECT_TRUE(
      ForEachIndex(4, 0, [](size_t) -> absl::Status { throw std::runtime_error("no"); }).ok());
}

TEST(ForEachIndexTest, TheLowestFailureWinsWhateverTheThreadsDo) {
  for (const int threads : {1, 2, 5}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const absl::Status status = ForEachIndex(threads, 50, [](size_t i) {
        return i % 7 == 6 ? Error(Reason::kNotFinite, fmt::format("index {}", i), "bad")
                          : absl::OkStatus();
      });
      EXPECT_EQ(std::string(status.message()), "index 6: bad");
    }
  }
}

TEST(ForEachIndexTest, AFailureEndsTheLoop) {
  std::atomic<size_t> begun = 0;
  std::latch failed(1);
  EXPECT_FALSE(ForEachIndex(2, 1'000'000, [&](size_t i) {
                 ++begun;
                 if (i == 3) {
                   failed.count_down();
                   return Error(Reason::kBusy, "index", "bad");
                 }
                 // All of them would take a quarter of an hour.
                 if (i > 3) failed.wait();
                 if (i > 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
                 return absl::OkStatus();
               }).ok());
  EXPECT_LT(begun, 1'000'000U);
}

TEST(ForEachIndexTest, ExceptionsBecomeErrors) {
  const absl::Status status =
      ForEachIndex(2, 3, [](size_t) -> absl::Status { throw std::bad_alloc(); });
  EXPECT_EQ(ReasonOf(status), Reason::kInternal);
}

}  // namespace
}  // namespace linchpin
