// The input is what somebody sends to the metrics' port.  The page goes to a GET of its
// path and to nothing else, and every answer is one.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "metrics/http_listener.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/fuzz/loopback.h"

namespace {

constexpr std::string_view kPage = "linchpin_up 1\n";

// What the listener on that port answers.
std::string AnswerTo(std::string_view request, int port) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = LoopbackAddress(port);
  // From another address each time: a closed connection keeps its port for a minute.
  static uint32_t run = 0;
  sockaddr_in source = LoopbackAddress(0);
  source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (++run & 0xffff));
  INVARIANT(bind(connection, reinterpret_cast<const sockaddr*>(&source), sizeof source) == 0);
  if (connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    INVARIANT(run > 10'000);  // after that the machine may have no room for more in that minute
    close(connection);
    return {};
  }
  SendAll(connection, request);
  shutdown(connection, SHUT_WR);
  std::string answer = ReceiveUntil(connection, "");
  close(connection);
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& listener = *linchpin::HttpListener::Start("127.0.0.1:0", "/metrics", [] {
                                   return std::string(kPage);
                                 })->release();
  static const int port = std::stoi(listener.address().substr(listener.address().rfind(':') + 1));
  const std::string_view request = TextOf(data, size);
  const std::string answer = AnswerTo(request, port);
  // None to what holds no blank; and what is left unread of a long one may reset the line.
  if (answer.empty()) return 0;
  INVARIANT(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 404 ") ||
            answer.starts_with("HTTP/1.1 405 "));
  const bool page = answer.ends_with(kPage);
  INVARIANT(page == answer.starts_with("HTTP/1.1 200 "));
  INVARIANT(page == (request.starts_with("GET /metrics") &&
                     (request.size() == 12 ||
                      std::string_view(" ?\r").find(request[12]) != std::string_view::npos)));
  return 0;
}
