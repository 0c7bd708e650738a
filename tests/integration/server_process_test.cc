// linchpin-server as a process: how it starts, what it says, how it ends.
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "linchpin/v1/compression.grpc.pb.h"
#include "tests/support/health_client.h"
#include "tests/support/patience.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

// A started server with its pipes: 3 to hold its life, 4 to hear that it is ready.
class ServerProcess {
 public:
  explicit ServerProcess(std::vector<std::string> arguments) {
    int life[2], ready[2], log[2];
    // Numbers out of the way of those that the child gets.
    for (int* ends : {life, ready, log}) {
      EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
      for (int i = 0; i < 2; ++i) {
        const int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, 20);
        close(ends[i]);
        ends[i] = moved;
      }
    }
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, life[0], 3);
    posix_spawn_file_actions_adddup2(&files, ready[1], 4);
    posix_spawn_file_actions_adddup2(&files, log[1], STDERR_FILENO);
    arguments.insert(arguments.begin(), LINCHPIN_SERVER);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, LINCHPIN_SERVER, &files, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&files);
    for (const int fd : {life[0], ready[1], log[1]}) close(fd);
    life_ = life[1];
    ready_ = ready[0];
    log_ = log[0];
  }
  ~ServerProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    for (const int fd : {life_, ready_, log_}) {
      if (fd >= 0) close(fd);
    }
  }

  // The line that it writes when it serves; empty if it ended instead.
  std::string AwaitReady() { return ReadAll(ready_); }
  void Signal(int number) const { kill(pid_, number); }
  void LetGo() {
    close(life_);
    life_ = -1;
  }
  // The exit status, or 128 + the signal that ended it; -1 when patience is over.
  int AwaitExit() {
    int status = 0;
    if (!Comes([&] { return waitpid(pid_, &status, WNOHANG) != 0; })) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  // All that it wrote to stderr; after it has ended.
  std::string Log() { return ReadAll(log_); }
  // One line of that, without its end.
  std::string LogLine() const {
    std::string line;
    for (char c = 0; read(log_, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }

 private:
  static std::string ReadAll(int fd) {
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = read(fd, buffer, sizeof(buffer))) > 0;) text.append(buffer, got);
    return text;
  }

  pid_t pid_ = -1;
  int life_ = -1;
  int ready_ = -1;
  int log_ = -1;
};

class ServerProcessTest : public testing::Test {
 protected:
  std::string Socket() { return "unix:" + (directory_ / "socket"); }
  std::vector<std::string> Arguments(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"--listen", Socket(),     "--metrics",
                                          "off",      "--ready-fd", "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::shared_ptr<grpc::Channel> Channel() {
    return grpc::CreateChannel(Socket(), grpc::InsecureChannelCredentials());
  }

  TemporaryDirectory directory_;
};

TEST_F(ServerProcessTest, ServesAndDrainsOnSigterm) {
  ServerProcess server(Arguments());
  EXPECT_EQ(server.AwaitReady(), Socket() + "\n");
  EXPECT_EQ(CheckHealth(Channel(), ""), Health::kServing);
  const auto stub = v1::CompressionService::NewStub(Channel());
  grpc::ClientContext context;
  v1::GetCapabilitiesResponse response;
  ASSERT_TRUE(stub->GetCapabilities(&context, {}, &response).ok());
  EXPECT_FALSE(response.libtorch_version().empty());
  EXPECT_THAT(response.families(), testing::Contains("llama"));
  server.Signal(SIGTERM);
  EXPECT_EQ(server.AwaitExit(), 0);
  EXPECT_THAT(server.Log(), testing::HasSubstr("draining: SIGTERM"));
}

TEST_F(ServerProcessTest, SigintDrainsToo) {
  ServerProcess server(Arguments());
  ASSERT_FALSE(server.AwaitReady().empty());
  server.Signal(SIGINT);
  EXPECT_EQ(server.AwaitExit(), 0);
}

TEST_F(ServerProcessTest, EndsWithWhoStartedIt) {
  ServerProcess server(Arguments({"--exit-with-fd", "3"}));
  ASSERT_FALSE(server.AwaitReady().empty());
  server.LetGo();
  EXPECT_EQ(server.AwaitExit(), 0);
}

TEST_F(ServerProcessTest, WithoutRootsNoPathIsAllowed) {
  ServerProcess server(Arguments());
  ASSERT_FALSE(server.AwaitReady().empty());
  const auto stub = v1::CompressionService::NewStub(Channel());
  grpc::ClientContext context;
  v1::VerifyArtifactRequest request;
  request.set_directory(directory_ / "anything");
  auto reader = stub->VerifyArtifact(&context, request);
  v1::VerifyArtifactResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.AwaitExit(), 0);
  // One line about the job, without its path.
  const std::string log = server.Log();
  EXPECT_THAT(
      log, testing::HasSubstr(R"({"job":"verify","result":"failed","reason":"PATH_NOT_ALLOWED")"));
  EXPECT_THAT(log, testing::Not(testing::HasSubstr("anything")));
}

// A port of the loopback interface: held for as long as this lives.
class HeldPort {
 public:
  HeldPort() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address_), sizeof(address_)), 0);
    socklen_t size = sizeof(address_);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address_), &size);
    listen(fd_, 1);
  }
  ~HeldPort() { close(fd_); }
  std::string text() const { return "127.0.0.1:" + std::to_string(ntohs(address_.sin_port)); }

 private:
  int fd_;
  sockaddr_in address_{};
};

// What a port of the loopback interface answers.
std::string Get(int port, const std::string& path) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
  send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  std::string reply;
  char buffer[4096];
  for (ssize_t got; (got = read(fd, buffer, sizeof(buffer))) > 0;) reply.append(buffer, got);
  close(fd);
  return reply;
}

// Beside LibTorch, whose thread-local storage has kept web servers from starting.
TEST_F(ServerProcessTest, ServesItsMetrics) {
  ServerProcess server(
      {"--listen", Socket(), "--metrics", "127.0.0.1:0", "--ready-fd", "4", "--max-memory", "2G"});
  ASSERT_FALSE(server.AwaitReady().empty()) << server.Log();
  ASSERT_EQ(CheckHealth(Channel(), ""), Health::kServing);
  const std::string said = server.LogLine();
  const size_t at = said.find("metrics 127.0.0.1:");
  ASSERT_NE(at, std::string::npos) << said;
  const std::string reply = Get(std::stoi(said.substr(said.find(':', at) + 1)), "/metrics");
  EXPECT_THAT(reply, testing::HasSubstr("linchpin_build_info{libtorch=\""));
  EXPECT_THAT(reply, testing::HasSubstr("linchpin_admission_limit_bytes 2147483648"));
  EXPECT_THAT(reply, testing::HasSubstr(
                         "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Check\""));
  server.Signal(SIGTERM);
  EXPECT_EQ(server.AwaitExit(), 0);
}

TEST_F(ServerProcessTest, AMetricsPortInUseIsAMessageAndNotAnAbort) {
  const HeldPort taken;
  ServerProcess server({"--listen", Socket(), "--metrics", taken.text()});
  EXPECT_EQ(server.AwaitExit(), 1);
  EXPECT_THAT(server.Log(), testing::HasSubstr("error: --metrics " + taken.text()));
}

TEST_F(ServerProcessTest, PlaintextToOthersIsRefused) {
  ServerProcess server({"--listen", "0.0.0.0:0", "--metrics", "off"});
  EXPECT_EQ(server.AwaitExit(), 1);
  const std::string log = server.Log();
  EXPECT_THAT(log, testing::HasSubstr("error: --listen 0.0.0.0:0"));
  EXPECT_THAT(log, testing::HasSubstr("--tls-cert"));
}

TEST_F(ServerProcessTest, ARootThatIsNoneIsRefused) {
  ServerProcess server(Arguments({"--read-root", "/no/such/directory"}));
  EXPECT_EQ(server.AwaitReady(), "");
  EXPECT_EQ(server.AwaitExit(), 1);
  EXPECT_THAT(server.Log(), testing::HasSubstr("/no/such/directory"));
}

TEST_F(ServerProcessTest, WrongUsageIsTold) {
  ServerProcess server({"--slots", "many"});
  EXPECT_EQ(server.AwaitExit(), 2);
  EXPECT_THAT(server.Log(), testing::HasSubstr("--slots"));
}

}  // namespace
}  // namespace linchpin
