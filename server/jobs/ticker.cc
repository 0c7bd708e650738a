#include "jobs/ticker.h"

#include <algorithm>
#include <utility>

namespace linchpin {

Ticker::Ticker(std::chrono::milliseconds interval)
    : interval_(interval), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

Ticker::~Ticker() {
  thread_.request_stop();
  thread_.join();
}

void Ticker::Add(std::weak_ptr<Listener> listener) {
  {
    std::lock_guard lock(mutex_);
    listeners_.push_back(std::move(listener));
  }
  changed_.notify_one();
}

void Ticker::Run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !listeners_.empty(); })) {
    // Nothing but a stop ends this wait early.
    changed_.wait_for(lock, stop, interval_, [] { return false; });
    if (stop.stop_requested()) return;
    std::erase_if(listeners_, [](const auto& listener) { return listener.expired(); });
    std::vector<std::shared_ptr<Listener>> alive;
    for (const auto& listener : listeners_) alive.push_back(listener.lock());
    lock.unlock();  // a listener's last reference may go here, and take its time
    const auto now = std::chrono::steady_clock::now();
    for (auto& listener : alive) {
      if (listener != nullptr) listener->Tick(now);
    }
    alive.clear();
    lock.lock();
  }
}

}  // namespace linchpin
