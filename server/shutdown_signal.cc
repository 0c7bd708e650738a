#include "shutdown_signal.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace linchpin {

namespace {

// Written by the handler.  A mask and signalfd would not do: libraries start
// threads before main, and a signal goes to any thread that lets it through.
int g_stop_pipe[2] = {-1, -1};

void OnStopSignal(int number) {
  const int before = errno;
  const char byte = static_cast<char>(number);
  [[maybe_unused]] const ssize_t written = write(g_stop_pipe[1], &byte, 1);
  errno = before;
}

}  // namespace

ShutdownSignal::ShutdownSignal(int exit_with_fd, int ready_fd)
    : exit_with_fd_(exit_with_fd), ready_fd_(ready_fd) {
  for (const int fd : {exit_with_fd_, ready_fd_}) {
    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  if (pipe2(g_stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0) return;
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
  // A write to who is gone, and one beyond the limit on a file's size, fail by themselves.
  for (const int number : {SIGPIPE, SIGXFSZ}) signal(number, SIG_IGN);
}

ShutdownSignal::~ShutdownSignal() {
  if (ready_fd_ >= 0) close(ready_fd_);
}

void ShutdownSignal::TellReady(std::string_view line) {
  if (ready_fd_ < 0) return;
  const std::string text = std::string(line) + "\n";
  // Who does not read it does not want to know.
  [[maybe_unused]] const ssize_t written = write(ready_fd_, text.data(), text.size());
  close(ready_fd_);
  ready_fd_ = -1;
}

std::string ShutdownSignal::Wait() {
  while (true) {
    // poll leaves descriptors of -1 out.
    pollfd events[] = {{g_stop_pipe[0], POLLIN, 0}, {exit_with_fd_, POLLIN, 0}};
    if (poll(events, 2, -1) < 0) {
      if (errno != EINTR) return "poll failed";
      continue;
    }
    char number = 0;
    if (events[0].revents != 0 && read(g_stop_pipe[0], &number, 1) == 1) {
      return number == SIGINT ? "SIGINT" : "SIGTERM";
    }
    if (events[1].revents == 0) continue;
    char bytes[64];
    const ssize_t got = read(exit_with_fd_, bytes, sizeof(bytes));
    if (got == 0 || (got < 0 && errno != EINTR)) return "its starter is gone";
  }
}

}  // namespace linchpin
