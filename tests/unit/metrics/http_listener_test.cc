#include "metrics/http_listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

int Connect(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  return fd;
}

std::string Ask(const std::string& address, const std::string& request) {
  const int fd = Connect(address);
  send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  std::string reply;
  char buffer[4096];
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) reply.append(buffer, got);
  close(fd);
  return reply;
}

std::unique_ptr<HttpListener> StartListener(std::string body) {
  auto listener = HttpListener::Start("127.0.0.1:0", "/page", [body] { return body; });
  EXPECT_TRUE(listener.ok()) << listener.status();
  return std::move(listener).value();
}

TEST(HttpListener, ServesItsPageWithItsLength) {
  const auto listener = StartListener("hello\n");
  const std::string reply = Ask(listener->address(), "GET /page HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(reply, HasSubstr("\r\nContent-Length: 6\r\n"));
  EXPECT_THAT(reply, EndsWith("\r\n\r\nhello\n"));
}

TEST(HttpListener, SendsALargePageWhole) {
  const std::string body(3'000'000, 'x');
  const auto listener = StartListener(body);
  EXPECT_THAT(Ask(listener->address(), "GET /page?name[]=a HTTP/1.1\r\n\r\n").size(),
              testing::Gt(body.size()));
}

TEST(HttpListener, HasNothingElse) {
  const auto listener = StartListener("hello\n");
  EXPECT_THAT(Ask(listener->address(), "GET / HTTP/1.1\r\n\r\n"), HasSubstr(" 404 "));
  EXPECT_THAT(Ask(listener->address(), "GET /page/../x HTTP/1.1\r\n\r\n"), HasSubstr(" 404 "));
  EXPECT_THAT(Ask(listener->address(), "POST /page HTTP/1.1\r\n\r\n"), HasSubstr(" 405 "));
}

TEST(HttpListener, OutlivesGarbageAndSilence) {
  const auto listener = StartListener("hello\n");
  Ask(listener->address(), std::string(20'000, 'x'));
  close(Connect(listener->address()));
  const int silent = Connect(listener->address());
  EXPECT_THAT(Ask(listener->address(), "GET /page HTTP/1.0\r\n\r\n"), HasSubstr("200 OK"));
  close(silent);
}

TEST(HttpListener, CutsOffWhoSendsAByteAtATime) {
  const auto listener = StartListener("hello\n");
  // It comes first, and never to an end.
  std::jthread drip([fd = Connect(listener->address())](const std::stop_token& stop) {
    while (!stop.stop_requested() && send(fd, "x", 1, MSG_NOSIGNAL) == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    close(fd);
  });
  EXPECT_THAT(Ask(listener->address(), "GET /page HTTP/1.0\r\n\r\n"), HasSubstr("200 OK"));
}

TEST(HttpListener, EndsAtOnceAndFreesItsPort) {
  EXPECT_THAT(StartListener("")->address(), StartsWith("127.0.0.1:"));
  // Of an address of its own: nobody else takes that port in between.
  std::string address = "127.83.7.1:0";
  for (int i = 0; i < 3; ++i) {
    const auto listener = HttpListener::Start(address, "/", [] { return ""; });
    ASSERT_TRUE(listener.ok()) << listener.status();
    address = (*listener)->address();
    EXPECT_THAT(address, StartsWith("127.83.7.1:"));
  }
}

TEST(HttpListener, UnderstandsLocalhost) {
  const auto listener = HttpListener::Start("localhost:0", "/page", [] { return "hello"; });
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_THAT((*listener)->address(), StartsWith("localhost:"));
  EXPECT_THAT(Ask((*listener)->address(), "GET /page HTTP/1.0\r\n\r\n"), EndsWith("hello"));
}

TEST(HttpListener, NamesAnAddressThatItCannotTake) {
  const auto taken = StartListener("");
  for (const std::string& address :
       {taken->address(), std::string("nonsense"), std::string("example.com:80"),
        std::string("127.0.0.1:"), std::string(":80"), std::string("127.0.0.1:65536"),
        std::string("127.0.0.1:8o"), std::string("203.0.113.1:9464")}) {
    const auto listener = HttpListener::Start(address, "/", [] { return ""; });
    EXPECT_EQ(ReasonOf(listener.status()), Reason::kOptionInvalid) << address;
    EXPECT_THAT(std::string(listener.status().message()), HasSubstr(address));
  }
}

}  // namespace
}  // namespace linchpin
