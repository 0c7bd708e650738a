#include "jobs/ticker.h"

#include <atomic>
#include <memory>

#include "gtest/gtest.h"
#include "tests/support/patience.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;

class Counter : public Ticker::Listener {
 public:
  void Tick(std::chrono::steady_clock::time_point) override { ++ticks; }
  bool WaitFor(int count) const {
    return Comes([&] { return ticks >= count; });
  }
  std::atomic<int> ticks = 0;
};

TEST(Ticker, CallsEveryListenerAgainAndAgain) {
  Ticker ticker(milliseconds(2));
  const auto first = std::make_shared<Counter>();
  const auto second = std::make_shared<Counter>();
  ticker.Add(first);
  ticker.Add(second);
  EXPECT_TRUE(first->WaitFor(3));
  EXPECT_TRUE(second->WaitFor(3));
}

TEST(Ticker, KeepsNobodyAlive) {
  Ticker ticker(milliseconds(2));
  auto gone = std::make_shared<Counter>();
  const std::weak_ptr<Counter> watch = gone;
  ticker.Add(gone);
  gone.reset();
  const auto other = std::make_shared<Counter>();
  ticker.Add(other);
  EXPECT_TRUE(other->WaitFor(2));
  EXPECT_TRUE(watch.expired());
}

TEST(Ticker, EndsAtOnceWhateverItsInterval) {
  const auto listener = std::make_shared<Counter>();
  {
    Ticker ticker(std::chrono::hours(1));
    ticker.Add(std::make_shared<Counter>());
    ticker.Add(listener);
  }
  EXPECT_EQ(listener->ticks, 0);
}

}  // namespace
}  // namespace linchpin
