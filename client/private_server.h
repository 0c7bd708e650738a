// A linchpin-server of this command's own, on a unix socket that only this user reaches.
//
// The server holds the read end of a pipe whose only write end is here: when
// this process ends, however it ends, the server does too.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "client/interrupts.h"
#include "grpcpp/support/status.h"

namespace linchpin {

class PrivateServer {
 public:
  // Starts `linchpin-server`, the one beside this program or else on PATH, and
  // returns when it listens.  CANCELLED if a signal comes meanwhile.
  // `more` are further options of its command line.
  static grpc::Status Start(const Interrupts& interrupts, const std::vector<std::string>& more,
                            std::unique_ptr<PrivateServer>& server);
  // Ends the server and waits until it is gone.
  ~PrivateServer();
  PrivateServer(const PrivateServer&) = delete;
  PrivateServer& operator=(const PrivateServer&) = delete;

  std::string endpoint() const { return "unix:" + (directory_ / "socket").string(); }
  // Removes socket and directory; connections that stand are not disturbed.
  // Called once connected, so that nothing is left even if this process is killed.
  void RemoveSocket();

 private:
  PrivateServer() = default;
  grpc::Status MakeDirectory();
  grpc::Status Spawn(const std::filesystem::path& program, int exit_fd, int ready_fd,
                     const std::vector<std::string>& more);
  grpc::Status AwaitReady(const Interrupts& interrupts, int ready_fd);

  std::filesystem::path directory_;
  pid_t pid_ = -1;
  int lifeline_ = -1;  // write end: closing it ends the server
};

}  // namespace linchpin
