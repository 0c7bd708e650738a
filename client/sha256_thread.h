// SHA-256 of bytes that come in pieces, in a thread of its own, so that the stream
// that they come from, or go to, moves on meanwhile.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "client/sha256.h"

namespace linchpin {

// For one thread.  A few pieces wait at most.
class Sha256Thread {
 public:
  Sha256Thread();
  ~Sha256Thread();

  // Waits while too many pieces are ahead.
  void Update(std::string bytes);
  // Lower-case hex of all bytes so far.  Called once, last.
  std::string Hex();

 private:
  void Run();
  void Close();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> pieces_;
  bool closed_ = false;
  Sha256 digest_;       // of the thread, until it ended
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace linchpin
