#include "client/connection.h"

#include <gtest/gtest.h>

#include "client/errors.h"

namespace linchpin {
namespace {

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

}  // namespace
}  // namespace linchpin
