// Waits to be told to stop: by SIGTERM, by SIGINT, or by the end of the process
// that holds the other end of a pipe.
#pragma once

#include <string>
#include <string_view>

namespace linchpin {

class ShutdownSignal {
 public:
  // From now on the signals no longer end the process, and SIGPIPE and SIGXFSZ are
  // ignored.  One per process.  A descriptor of -1 is left out.
  ShutdownSignal(int exit_with_fd, int ready_fd);
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  // Writes `line` to the ready descriptor and closes it.
  void TellReady(std::string_view line);
  // Returns why to stop.
  std::string Wait();

 private:
  int exit_with_fd_;
  int ready_fd_;
};

}  // namespace linchpin
