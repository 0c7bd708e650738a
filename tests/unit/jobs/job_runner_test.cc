#include "jobs/job_runner.h"

#include <condition_variable>
#include <latch>
#include <mutex>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/patience.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;

// Work that lasts until it is stopped.
std::function<void()> UntilStopped(std::shared_ptr<Job> job) {
  return [job] {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, job->stop_token(), [] { return false; });
    job->Release();
  };
}

TEST(JobRunner, RunsAJobAndTakesItsSlotBack) {
  JobRunner runner({.slots = 1, .bytes = 100});
  for (int i = 0; i < 3; ++i) {
    auto job = runner.Admit();
    ASSERT_TRUE(job.ok()) << job.status();
    ASSERT_TRUE((*job)->Reserve(80).ok());
    std::latch done(1);
    runner.Start(*job, [&, job = *job] {
      job->Release();
      done.count_down();
    });
    done.wait();
    EXPECT_EQ(runner.jobs(), 0);
    EXPECT_EQ(runner.admission().reserved_bytes(), 0U);
  }
}

TEST(JobRunner, RefusesWhenFull) {
  JobRunner runner({.slots = 1, .bytes = 100});
  auto job = runner.Admit();
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(ReasonOf(runner.Admit().status()), Reason::kBusy);
  job->reset();  // never started: the slot comes back all the same
  EXPECT_TRUE(runner.Admit().ok());
}

TEST(JobRunner, StopsOneJobAlone) {
  JobRunner runner({.slots = 2, .bytes = 100});
  auto first = runner.Admit();
  auto second = runner.Admit();
  runner.Start(*first, UntilStopped(*first));
  runner.Start(*second, UntilStopped(*second));
  (*first)->RequestStop();
  EXPECT_TRUE(Comes([&] { return runner.jobs() == 1; }));
  EXPECT_FALSE((*second)->stop_token().stop_requested());
  (*second)->RequestStop();
  EXPECT_TRUE(runner.WaitIdle(kPatience));
}

TEST(JobRunner, DrainsByRefusingAndWaiting) {
  JobRunner runner({.slots = 2, .bytes = 100});
  auto job = runner.Admit();
  runner.Start(*job, UntilStopped(*job));
  EXPECT_FALSE(runner.draining());
  runner.Drain();
  EXPECT_TRUE(runner.draining());
  EXPECT_EQ(ReasonOf(runner.Admit().status()), Reason::kDraining);
  EXPECT_FALSE(runner.WaitIdle(milliseconds(20)));
  runner.StopAll();
  EXPECT_TRUE(runner.WaitIdle(kPatience));
}

TEST(JobRunner, TellsTheCallersOfStoppedJobsToComeBack) {
  JobRunner runner({.slots = 2, .bytes = 100});
  auto job = *runner.Admit();
  const absl::Status cancelled = Error(Reason::kCancelled, "job", "stopped");
  EXPECT_EQ(ReasonOf(job->Outcome(cancelled)), Reason::kCancelled);
  runner.StopAll();
  EXPECT_EQ(ReasonOf(job->Outcome(cancelled)), Reason::kDraining);
  EXPECT_TRUE(job->Outcome(absl::OkStatus()).ok());
  const absl::Status other = Error(Reason::kNotFinite, "t", "NaN");
  EXPECT_EQ(ReasonOf(job->Outcome(other)), Reason::kNotFinite);
}

TEST(JobRunner, StopMayGiveTheJobBackAtOnce) {
  JobRunner runner({.slots = 1, .bytes = 100});
  auto job = *runner.Admit();
  std::stop_callback release(job->stop_token(), [&] { job->Release(); });
  runner.StopAll();
  EXPECT_EQ(runner.jobs(), 0);
}

TEST(JobRunner, IsIdleWithoutJobs) {
  JobRunner runner({.slots = 1, .bytes = 1});
  EXPECT_TRUE(runner.WaitIdle(milliseconds(0)));
}

}  // namespace
}  // namespace linchpin
