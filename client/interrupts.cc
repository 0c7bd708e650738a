#include "client/interrupts.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace linchpin {
namespace {

sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

}  // namespace

Interrupts::Interrupts() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  const sigset_t set = WatchedSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A closed stdout, and the limit on a file's size, are errors of the write.
  for (const int number : {SIGPIPE, SIGXFSZ}) ::signal(number, SIG_IGN);
  waiter_ = std::thread([this] { Wait(); });
}

Interrupts::~Interrupts() {
  stopping_ = true;
  // It waits for this very signal, so that no process ends by it.
  pthread_kill(waiter_.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread)
  waiter_.join();
  close(event_);
}

void Interrupts::Wait() {
  const sigset_t set = WatchedSignals();
  int number = 0;
  while (sigwait(&set, &number) == 0 && !stopping_) {
    if (signal_ != 0) _exit(128 + number);
    signal_ = number;
    const uint64_t one = 1;
    if (write(event_, &one, sizeof one) < 0) _exit(128 + number);
    const std::lock_guard lock(mutex_);
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }
}

Interrupts::Scope::Scope(Interrupts& interrupts, grpc::ClientContext& context)
    : interrupts_(interrupts), context_(context) {
  const std::lock_guard lock(interrupts_.mutex_);
  interrupts_.contexts_.insert(&context);
  if (interrupts_.signal_ != 0) context.TryCancel();
}

Interrupts::Scope::~Scope() {
  const std::lock_guard lock(interrupts_.mutex_);
  interrupts_.contexts_.erase(&context_);
}

}  // namespace linchpin
