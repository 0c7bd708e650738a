#include "client/connection.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "client/errors.h"
#include "tests/support/patience.h"

namespace linchpin {
namespace {

// Listens on a port of this machine and is no server.
class Listener {
 public:
  Listener() {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(socket_, any, size), 0);
    EXPECT_EQ(listen(socket_, 8), 0);
    const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};  // of accept
    EXPECT_EQ(setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    EXPECT_EQ(getsockname(socket_, any, &size), 0);
    port_ = ntohs(address.sin_port);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { close(socket_); }

  // The first bytes of a call over a connection to `host` and the port.
  std::string FirstBytes(const std::string& host) {
    ConnectionOptions options;
    options.endpoint = host + ":" + std::to_string(port_);
    Interrupts interrupts;
    std::unique_ptr<Connection> connection;
    EXPECT_TRUE(Connection::Open(options, interrupts, connection).ok());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    const std::jthread caller([&] {
      v1::GetCapabilitiesResponse response;
      connection->stub().GetCapabilities(&context, {}, &response);
    });
    std::string bytes(6, '\0');
    const int caught = accept(socket_, nullptr, nullptr);
    EXPECT_EQ(recv(caught, bytes.data(), bytes.size(), MSG_WAITALL),
              static_cast<ssize_t>(bytes.size()));
    context.TryCancel();
    close(caught);
    return bytes;
  }

 private:
  const int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int port_ = 0;
};

TEST(IsLocalEndpoint, TrueWherePlaintextStaysOnTheMachine) {
  for (const char* endpoint :
       {"unix:/run/linchpin.sock", "unix:///run/linchpin.sock", "unix-abstract:linchpin",
        "localhost:50051", "127.0.0.1:50051", "127.8.9.10:1", "[::1]:50051", "dns:///localhost:1",
        "dns:localhost:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "ipv4:127.0.0.1:1,127.0.0.1:2"}) {
    EXPECT_TRUE(IsLocalEndpoint(endpoint)) << endpoint;
  }
}

TEST(IsLocalEndpoint, FalseElsewhereAndWhereInDoubt) {
  for (const char* endpoint :
       {"example.com:443", "10.0.0.1:50051", "0.0.0.0:1", "[::]:1", "[2001:db8::1]:1",
        "127.0.0.1.example.com:443", "localhost.example.com:1", "dns://resolver/localhost:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1", "", ":1", "xds:///localhost:1"}) {
    EXPECT_FALSE(IsLocalEndpoint(endpoint)) << endpoint;
  }
}

TEST(ConnectionOpen, NamesACertificateFileThatIsNotThere) {
  ConnectionOptions options;
  options.endpoint = "example.com:443";
  options.tls_ca = "/nowhere/ca.pem";
  Interrupts interrupts;
  std::unique_ptr<Connection> connection;
  const grpc::Status status = Connection::Open(options, interrupts, connection);
  EXPECT_EQ(ReasonOf(status), "SOURCE_NOT_FOUND");
  EXPECT_NE(status.error_message().find("/nowhere/ca.pem"), std::string::npos);
  EXPECT_EQ(connection, nullptr);
}

TEST(ConnectionOpen, NamesATokenFileThatIsNotThere) {
  ConnectionOptions options;
  options.endpoint = "localhost:1";
  options.token_file = "/nowhere/token";
  Interrupts interrupts;
  std::unique_ptr<Connection> connection;
  const grpc::Status status = Connection::Open(options, interrupts, connection);
  EXPECT_EQ(ReasonOf(status), "SOURCE_NOT_FOUND");
  EXPECT_NE(status.error_message().find("/nowhere/token"), std::string::npos);
}

TEST(ConnectionOpen, DoesNotCallYet) {
  ConnectionOptions options;
  options.endpoint = "localhost:1";
  Interrupts interrupts;
  std::unique_ptr<Connection> connection;
  ASSERT_TRUE(Connection::Open(options, interrupts, connection).ok());
  EXPECT_EQ(connection->endpoint(), "localhost:1");
}

TEST(ConnectionOpen, SpeaksTlsToWhatIsNotLocalWithoutBeingTold) {
  const std::string bytes = Listener().FirstBytes("0.0.0.0");
  EXPECT_EQ(bytes[0], 22) << bytes;  // a record of a handshake
  EXPECT_EQ(bytes[5], 1) << bytes;   // whose first message is a ClientHello
}

TEST(ConnectionOpen, SpeaksPlaintextToWhatIsLocal) {
  EXPECT_EQ(Listener().FirstBytes("127.0.0.1"), "PRI * ");
}

}  // namespace
}  // namespace linchpin
