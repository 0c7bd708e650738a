// Sockets of this machine, for targets that are reached through one.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "tests/fuzz/invariant.h"

inline sockaddr_in LoopbackAddress(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

inline void SendAll(int socket, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

// Up to the end of the stream, or to `end`.
inline std::string ReceiveUntil(int socket, std::string_view end) {
  std::string text;
  char buffer[4096];
  while (end.empty() || text.find(end) == std::string::npos) {
    const ssize_t got = recv(socket, buffer, sizeof buffer, 0);
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

// Sends the same bytes to whoever connects, once its request is there, and closes.
class AnsweringServer {
 public:
  AnsweringServer() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = LoopbackAddress(0);
    socklen_t length = sizeof address;
    INVARIANT(bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    INVARIANT(listen(listener_, 64) == 0);
    INVARIANT(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
    std::thread([this] { Serve(); }).detach();  // to the end of the process
  }

  int port() const { return port_; }
  void set_answer(std::string answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }

 private:
  void Serve() {
    while (true) {
      const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      std::thread([this, connection] { Answer(connection); }).detach();
    }
  }
  void Answer(int connection) {
    if (!ReceiveUntil(connection, "\r\n\r\n").empty()) {
      std::string answer;
      {
        const std::lock_guard lock(mutex_);
        answer = answer_;
      }
      SendAll(connection, answer);
    }
    shutdown(connection, SHUT_WR);
    ReceiveUntil(connection, "");
    close(connection);
  }

  const int listener_;
  int port_ = 0;
  std::mutex mutex_;
  std::string answer_;
};
