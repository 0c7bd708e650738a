#include "client/interrupts.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

namespace linchpin {
namespace {

bool Readable(int fd, int timeout_ms) {
  pollfd event{fd, POLLIN, 0};
  return poll(&event, 1, timeout_ms) == 1;
}

TEST(Interrupts, SaysNothingBeforeASignal) {
  const Interrupts interrupts;
  EXPECT_EQ(interrupts.signal(), 0);
  EXPECT_FALSE(Readable(interrupts.fd(), 0));
}

TEST(Interrupts, TakesTheSignalInsteadOfTheProcess) {
  const Interrupts interrupts;
  kill(getpid(), SIGINT);
  ASSERT_TRUE(Readable(interrupts.fd(), 300'000));
  EXPECT_EQ(interrupts.signal(), SIGINT);
}

TEST(Interrupts, ScopeComesAndGoesWithoutACall) {
  Interrupts interrupts;
  grpc::ClientContext context;
  { const Interrupts::Scope scope(interrupts, context); }
  kill(getpid(), SIGTERM);
  ASSERT_TRUE(Readable(interrupts.fd(), 300'000));
  grpc::ClientContext late;
  const Interrupts::Scope scope(interrupts, late);  // cancelled before it is used
  EXPECT_EQ(interrupts.signal(), SIGTERM);
}

}  // namespace
}  // namespace linchpin
