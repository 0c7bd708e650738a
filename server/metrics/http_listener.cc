#include "metrics/http_listener.h"

#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr size_t kMaxRequestBytes = 8192;
// Of one read or write, and of a request as a whole: who sends a byte at a time
// must not hold the thread.
constexpr timeval kPatience = {.tv_sec = 2, .tv_usec = 0};
using Clock = std::chrono::steady_clock;

absl::Status ListenError(std::string_view address, std::string_view why) {
  return Error(Reason::kOptionInvalid, fmt::format("--metrics {}", address),
               fmt::format("cannot listen there: {}", why),
               "choose another ADDRESS:PORT, or --metrics off");
}

// Numeric only: a name service is not asked where to listen.
addrinfo* Resolve(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return nullptr;
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host == "localhost") {
    host = "127.0.0.1";
  }
  const std::string port = address.substr(colon + 1);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool is_port = error == std::errc() && end == port.data() + port.size();
  if (host.empty() || !is_port || number > UINT16_MAX) return nullptr;
  const addrinfo hints{.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  return getaddrinfo(host.c_str(), port.c_str(), &hints, &found) == 0 ? found : nullptr;
}

// A listening socket, or -1 with the cause in errno.
int Listen(const addrinfo& where) {
  const int fd = socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  constexpr int kBacklog = 16;
  if (bind(fd, where.ai_addr, where.ai_addrlen) == 0 && listen(fd, kBacklog) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// The port that a socket got.
std::string PortOf(int socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  char port[NI_MAXSERV] = "";
  getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size);
  getnameinfo(reinterpret_cast<sockaddr*>(&name), size, nullptr, 0, port, sizeof port,
              NI_NUMERICSERV);
  return port;
}

// What came up to the empty line; shorter if it did not come in time.
std::string ReadRequest(int connection, Clock::time_point deadline) {
  std::string request;
  char buffer[1024];
  while (request.size() < kMaxRequestBytes && request.find("\r\n\r\n") == std::string::npos &&
         Clock::now() < deadline) {
    const ssize_t got = recv(connection, buffer, sizeof buffer, 0);
    if (got <= 0) break;
    request.append(buffer, static_cast<size_t>(got));
  }
  return request;
}

void SendAll(int connection, std::string_view text, Clock::time_point deadline) {
  while (!text.empty() && Clock::now() < deadline) {
    const ssize_t sent = send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

std::string Reply(std::string_view status, std::string_view body) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
      "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
      status, body.size(), body);
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpListener>> HttpListener::Start(const std::string& address,
                                                                  std::string path, Page page) {
  addrinfo* where = Resolve(address);
  if (where == nullptr) return ListenError(address, "it is no numeric address with a port");
  const int socket = Listen(*where);
  const int error = errno;
  freeaddrinfo(where);
  if (socket < 0) return ListenError(address, std::strerror(error));
  const int stop = eventfd(0, EFD_CLOEXEC);
  if (stop < 0) {
    close(socket);
    return ListenError(address, std::strerror(errno));
  }
  std::unique_ptr<HttpListener> listener(
      new HttpListener(socket, stop, std::move(path), std::move(page)));
  listener->address_ = address.substr(0, address.rfind(':') + 1) + PortOf(socket);
  listener->thread_ = std::thread([raw = listener.get()] { raw->Run(); });
  return listener;
}

HttpListener::HttpListener(int socket, int stop, std::string path, Page page)
    : socket_(socket), stop_(stop), path_(std::move(path)), page_(std::move(page)) {}

HttpListener::~HttpListener() {
  const uint64_t one = 1;
  // An eventfd that is not full takes it.
  [[maybe_unused]] const ssize_t written = write(stop_, &one, sizeof one);
  thread_.join();
  close(socket_);
  close(stop_);
}

void HttpListener::Run() const {
  while (true) {
    pollfd events[] = {{stop_, POLLIN, 0}, {socket_, POLLIN, 0}};
    if (poll(events, 2, -1) < 0 && errno != EINTR) return;
    if (events[0].revents != 0) return;
    if ((events[1].revents & POLLIN) == 0) continue;
    const int connection = accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) {  // out of descriptors, say: do not spin
      poll(events, 1, 100);
      continue;
    }
    Answer(connection);
    close(connection);
  }
}

void HttpListener::Answer(int connection) const {
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  const auto deadline = Clock::now() + std::chrono::seconds(2 * kPatience.tv_sec);
  const std::string request = ReadRequest(connection, deadline);
  const size_t space = request.find(' ');
  if (space == std::string::npos) return;
  const std::string method = request.substr(0, space);
  const std::string target =
      request.substr(space + 1, request.find_first_of(" ?\r", space + 1) - space - 1);
  if (method != "GET") {
    SendAll(connection, Reply("405 Method Not Allowed", "only GET\n"), deadline);
  } else if (target != path_) {
    SendAll(connection, Reply("404 Not Found", fmt::format("look at {}\n", path_)), deadline);
  } else {
    SendAll(connection, Reply("200 OK", page_()), deadline);
  }
}

}  // namespace linchpin
