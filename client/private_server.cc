#include "client/private_server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <thread>
#include <vector>

#include "client/errors.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kChildExitFd = 3;
constexpr int kChildReadyFd = 4;
constexpr size_t kLongestSocketDirectory = 90;  // sun_path has 108 bytes
constexpr std::string_view kServerName = "linchpin-server";

// Beside this program, else the first on PATH, else empty.
fs::path FindServer() {
  std::error_code error;
  std::vector<fs::path> places = {fs::read_symlink("/proc/self/exe", error).parent_path()};
  const char* path = std::getenv("PATH");
  std::stringstream entries(path != nullptr ? path : "");
  for (std::string entry; std::getline(entries, entry, ':');) places.emplace_back(entry);
  for (const fs::path& place : places) {
    const fs::path program = place / kServerName;
    if (!place.empty() && access(program.c_str(), X_OK) == 0) return program;
  }
  return {};
}

fs::path TemporaryParent() {
  for (const char* name : {"XDG_RUNTIME_DIR", "TMPDIR"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && value[0] == '/' &&
        std::string_view(value).size() < kLongestSocketDirectory - 16 &&
        access(value, W_OK | X_OK) == 0) {
      return value;
    }
  }
  return "/tmp";
}

// A pipe whose ends lie above the numbers that the child gets, so that putting
// them in place there overwrites neither.
bool MakePipe(std::array<int, 2>& ends) {
  std::array<int, 2> low{};
  if (pipe2(low.data(), O_CLOEXEC) != 0) return false;
  for (size_t i = 0; i < 2; ++i) {
    ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 10);
    close(low[i]);
  }
  return ends[0] >= 0 && ends[1] >= 0;
}

// Spawned with signals as at a fresh start and in a group of its own: Ctrl-C
// goes to the command, which cancels its call and then ends the server.
struct SpawnSettings {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;

  SpawnSettings(int exit_fd, int ready_fd) {
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, exit_fd, kChildExitFd);
    posix_spawn_file_actions_adddup2(&files, ready_fd, kChildReadyFd);
    posix_spawnattr_init(&attributes);
    sigset_t none, reset;
    sigemptyset(&none);
    sigemptyset(&reset);
    sigaddset(&reset, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &reset);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
};

bool WaitForEnd(pid_t pid, milliseconds patience) {
  const auto deadline = steady_clock::now() + patience;
  while (waitpid(pid, nullptr, WNOHANG) == 0) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

}  // namespace

grpc::Status PrivateServer::Start(const Interrupts& interrupts,
                                  const std::vector<std::string>& more,
                                  std::unique_ptr<PrivateServer>& server) {
  const fs::path program = FindServer();
  if (program.empty()) {
    return LocalError(grpc::StatusCode::INTERNAL, "INTERNAL", kServerName,
                      "not found beside linchpin nor on PATH",
                      "install it there, or name a running server with --endpoint");
  }
  std::array<int, 2> lifeline{}, ready{};
  if (!MakePipe(lifeline) || !MakePipe(ready)) {
    return SystemError("pipe", errno, "raise the limit on open files");
  }
  std::unique_ptr<PrivateServer> made(new PrivateServer);
  made->lifeline_ = lifeline[1];
  grpc::Status status = made->MakeDirectory();
  if (status.ok()) status = made->Spawn(program, lifeline[0], ready[1], more);
  close(lifeline[0]);
  close(ready[1]);
  if (status.ok()) status = made->AwaitReady(interrupts, ready[0]);
  close(ready[0]);
  if (status.ok()) server = std::move(made);
  return status;
}

grpc::Status PrivateServer::MakeDirectory() {
  std::string name = (TemporaryParent() / "linchpin-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {  // makes it with mode 0700
    return SystemError(name, errno, "set TMPDIR to a directory that can be written");
  }
  directory_ = name;
  return grpc::Status::OK;
}

grpc::Status PrivateServer::Spawn(const fs::path& program, int exit_fd, int ready_fd,
                                  const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {program.string(),
                                        "--listen",
                                        endpoint(),
                                        "--exit-with-fd",
                                        std::to_string(kChildExitFd),
                                        "--ready-fd",
                                        std::to_string(kChildReadyFd),
                                        "--metrics",
                                        "off",
                                        "--read-root",
                                        "/",
                                        "--write-root",
                                        "/",
                                        "--allow-symlinks",
                                        "--log-level",
                                        "warning"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const SpawnSettings settings(exit_fd, ready_fd);
  const int error = posix_spawn(&pid_, program.c_str(), &settings.files, &settings.attributes,
                                argv.data(), environ);
  if (error == 0) return grpc::Status::OK;
  pid_ = -1;
  return SystemError(program.string(), error, "check that it can be run");
}

grpc::Status PrivateServer::AwaitReady(const Interrupts& interrupts, int ready_fd) {
  constexpr int kPatienceMs = 60'000;
  std::array<pollfd, 2> events = {pollfd{ready_fd, POLLIN, 0}, pollfd{interrupts.fd(), POLLIN, 0}};
  const int count = poll(events.data(), events.size(), kPatienceMs);
  if (interrupts.signal() != 0) return {grpc::StatusCode::CANCELLED, "interrupted"};
  char byte = 0;
  if (count > 0 && read(ready_fd, &byte, 1) == 1) return grpc::Status::OK;
  return LocalError(grpc::StatusCode::INTERNAL, "INTERNAL", kServerName,
                    count > 0 ? "ended before it listened" : "did not listen within a minute",
                    "see its messages above, or name a running server with --endpoint");
}

void PrivateServer::RemoveSocket() {
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

PrivateServer::~PrivateServer() {
  close(lifeline_);
  constexpr milliseconds kPatience(10'000);  // to cancel its work and remove partial output
  if (pid_ > 0 && !WaitForEnd(pid_, kPatience)) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  RemoveSocket();
}

}  // namespace linchpin
