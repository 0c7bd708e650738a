// The threads that compute, apart from those that talk.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace linchpin {

// A fixed number of threads that run what they are given, in order.
// Thread-safe.  Destruction runs what was submitted to its end.
class WorkerPool {
 public:
  explicit WorkerPool(int threads);  // >= 1
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // `work` must not throw.
  void Submit(std::function<void()> work);

 private:
  void Run(const std::stop_token& stop);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::function<void()>> waiting_;
  std::vector<std::jthread> threads_;  // last: they use all of the above
};

}  // namespace linchpin
