#include "jobs/worker_pool.h"

#include <atomic>
#include <latch>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(WorkerPool, RunsAsManyAtOnceAsItHasThreads) {
  std::latch both(2);
  WorkerPool pool(2);
  std::latch done(2);
  for (int i = 0; i < 2; ++i) {
    pool.Submit([&] {
      both.arrive_and_wait();  // hangs unless two run side by side
      done.count_down();
    });
  }
  done.wait();
}

TEST(WorkerPool, RunsElsewhereAndInOrder) {
  std::vector<int> order;
  std::thread::id worker;
  {
    WorkerPool pool(1);
    for (int i = 0; i < 3; ++i) {
      pool.Submit([&, i] {
        order.push_back(i);
        worker = std::this_thread::get_id();
      });
    }
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
  EXPECT_NE(worker, std::this_thread::get_id());
}

TEST(WorkerPool, FinishesWhatWasSubmittedBeforeItGoes) {
  std::atomic<int> ran = 0;
  {
    WorkerPool pool(2);
    for (int i = 0; i < 50; ++i) pool.Submit([&] { ++ran; });
  }
  EXPECT_EQ(ran, 50);
}

TEST(WorkerPool, HasAtLeastOneThread) {
  std::atomic<bool> ran = false;
  {
    WorkerPool pool(0);
    pool.Submit([&] { ran = true; });
  }
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace linchpin
