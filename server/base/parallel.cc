#include "base/parallel.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/status.h"

namespace linchpin {
namespace {

class Loop {
 public:
  Loop(size_t count, const std::function<absl::Status(size_t)>& work) : end_(count), work_(work) {}

  void Run() {
    size_t index = 0;
    while (Take(&index)) Keep(index, Guarded(index));
  }
  absl::Status status() const { return status_; }

 private:
  bool Take(size_t* index) {
    const std::lock_guard lock(mutex_);
    if (next_ >= end_) return false;
    *index = next_++;
    return true;
  }

  absl::Status Guarded(size_t index) {
    try {
      return work_(index);
    } catch (const std::exception& error) {  // most of all, out of memory
      return Error(Reason::kInternal, "worker thread", error.what());
    }
  }

  // Nothing at or above a failure is begun any more.
  void Keep(size_t index, absl::Status status) {
    if (status.ok()) return;
    const std::lock_guard lock(mutex_);
    if (index >= end_) return;
    end_ = index;
    status_ = std::move(status);
  }

  std::mutex mutex_;
  size_t next_ = 0;
  size_t end_;
  absl::Status status_;
  const std::function<absl::Status(size_t)>& work_;
};

}  // namespace

absl::Status ForEachIndex(int threads, size_t count,
                          const std::function<absl::Status(size_t)>& work) {
  Loop loop(count, work);
  const size_t helpers = std::min<size_t>(std::max(threads, 1), std::max<size_t>(count, 1)) - 1;
  {
    std::vector<std::jthread> pool;
    try {
      for (size_t i = 0; i < helpers; ++i) pool.emplace_back([&loop] { loop.Run(); });
    } catch (const std::system_error&) {
      // No more threads to be had: those that run do the work.
    }
    loop.Run();
  }
  return loop.status();
}

}  // namespace linchpin
