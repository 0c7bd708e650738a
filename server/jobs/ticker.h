// One thread that calls whoever wants it, again and again: progress messages,
// heartbeats and idle timeouts of all streams hang on it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace linchpin {

// Thread-safe.  Sleeps while there is no listener.
class Ticker {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // Must return quickly.
    virtual void Tick(std::chrono::steady_clock::time_point now) = 0;
  };

  explicit Ticker(std::chrono::milliseconds interval);
  ~Ticker();

  // Calls `listener` every interval for as long as it exists.
  void Add(std::weak_ptr<Listener> listener);

 private:
  void Run(const std::stop_token& stop);

  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::weak_ptr<Listener>> listeners_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace linchpin
