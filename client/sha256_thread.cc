#include "client/sha256_thread.h"

#include <utility>

namespace linchpin {
namespace {

constexpr size_t kWaiting = 4;

}  // namespace

Sha256Thread::Sha256Thread() : thread_([this] { Run(); }) {}

Sha256Thread::~Sha256Thread() { Close(); }

void Sha256Thread::Update(std::string bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return pieces_.size() < kWaiting; });
  pieces_.push_back(std::move(bytes));
  changed_.notify_all();
}

std::string Sha256Thread::Hex() {
  Close();
  return digest_.Hex();
}

void Sha256Thread::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Sha256Thread::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return !pieces_.empty() || closed_; });
    if (pieces_.empty()) return;
    const std::string bytes = std::move(pieces_.front());
    pieces_.pop_front();
    changed_.notify_all();
    lock.unlock();
    digest_.Update(bytes);
    lock.lock();
  }
}

}  // namespace linchpin
