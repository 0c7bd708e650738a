#include "metrics/metrics_endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

// A TCP socket bound to a free port of the loopback interface.
class BoundSocket {
 public:
  BoundSocket() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(fd_, reinterpret_cast<sockaddr*>(&address_), sizeof(address_));
    socklen_t size = sizeof(address_);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address_), &size);
    listen(fd_, 1);
  }
  ~BoundSocket() { close(fd_); }
  std::string address() const { return "127.0.0.1:" + std::to_string(ntohs(address_.sin_port)); }

 private:
  int fd_;
  sockaddr_in address_{};
};

std::string HttpGet(const std::string& listener, const std::string& path) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port =
      htons(static_cast<uint16_t>(std::stoi(listener.substr(listener.rfind(':') + 1))));
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  std::string reply;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
    send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    char buffer[4096];
    for (ssize_t got; (got = read(fd, buffer, sizeof(buffer))) > 0;) reply.append(buffer, got);
  }
  close(fd);
  return reply;
}

TEST(MetricsEndpoint, ServesWhatMetricsCount) {
  Metrics metrics({"1", "2"}, {});
  const auto endpoint = MetricsEndpoint::Create("127.0.0.1:0", metrics);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  metrics.SuperWeightsDetected(7);
  const std::string reply = HttpGet((*endpoint)->address(), "/metrics");
  EXPECT_THAT(reply, testing::HasSubstr("200 OK"));
  EXPECT_THAT(reply, testing::HasSubstr("linchpin_super_weights_detected_total 7"));
  EXPECT_THAT(reply, testing::HasSubstr("process_resident_memory_bytes "));
}

TEST(MetricsEndpoint, SaysThatAPortIsInUse) {
  BoundSocket taken;
  Metrics metrics({"1", "2"}, {});
  const auto endpoint = MetricsEndpoint::Create(taken.address(), metrics);
  EXPECT_EQ(ReasonOf(endpoint.status()), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(endpoint.status().message()), testing::HasSubstr(taken.address()));
}

TEST(MetricsEndpoint, RefusesWhatIsNoAddress) {
  Metrics metrics({"1", "2"}, {});
  for (const char* address : {"nonsense", "127.0.0.1:99999", "256.1.1.1:9464"}) {
    EXPECT_EQ(ReasonOf(MetricsEndpoint::Create(address, metrics).status()), Reason::kOptionInvalid)
        << address;
  }
}

}  // namespace
}  // namespace linchpin
