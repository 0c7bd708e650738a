// Ctrl-C and SIGTERM: the call in flight is cancelled, the command ends in order.
#pragma once

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "grpcpp/client_context.h"

namespace linchpin {

// Takes SIGINT, SIGTERM and SIGHUP over from its construction on; made first in
// main, before any thread is.  A second signal ends the process at once.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // The signal that came, 0 before.
  int signal() const { return signal_; }
  // Readable once a signal came, for poll.
  int fd() const { return event_; }

  // Cancels a call when a signal comes; also if it came already.  Several may
  // stand at once.
  class Scope {
   public:
    Scope(Interrupts& interrupts, grpc::ClientContext& context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupts& interrupts_;
    grpc::ClientContext& context_;
  };

 private:
  void Wait();

  std::atomic<int> signal_ = 0;
  std::atomic<bool> stopping_ = false;
  int event_ = -1;
  std::mutex mutex_;
  std::set<grpc::ClientContext*> contexts_;  // guarded by mutex_
  std::thread waiter_;
};

}  // namespace linchpin
