// Every system call of an output fails in turn, the n-th for every n: nothing
// partial is ever visible, nothing is left, and the next attempt gives the same bytes.
#include <cerrno>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/file_descriptor.h"
#include "storage/local_storage.h"
#include "tests/support/shared.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

// The plan of the fault, shared with the functions that stand in for the calls.
struct Fault {
  int calls = 0;         // of all kinds so far
  int at = -1;           // the one that fails; -1 for none
  bool goes_on = false;  // and all that follow
  int error = EIO;
  bool is_short = false;  // a transfer of one byte in place of an error
};
Fault fault;
const SystemCalls real = TheSystemCalls();

bool Fails() {
  const int call = fault.calls++;
  const bool fails = fault.at >= 0 && (fault.goes_on ? call >= fault.at : call == fault.at);
  if (fails) errno = fault.error;
  return fails;
}

ssize_t ReadAt(int fd, void* out, size_t count, off_t offset) {
  if (Fails()) return fault.is_short ? real.read_at(fd, out, 1, offset) : -1;
  return real.read_at(fd, out, count, offset);
}
ssize_t WriteAt(int fd, const void* bytes, size_t count, off_t offset) {
  if (Fails()) return fault.is_short ? real.write_at(fd, bytes, 1, offset) : -1;
  return real.write_at(fd, bytes, count, offset);
}
int MakeDirectory(int directory, const char* name, mode_t mode) {
  return Fails() ? -1 : real.make_directory(directory, name, mode);
}
int Create(int directory, const char* name, const void* how, size_t size) {
  return Fails() ? -1 : real.create(directory, name, how, size);
}
int Reserve(int fd, int mode, off_t offset, off_t length) {
  return Fails() ? -1 : real.reserve(fd, mode, offset, length);
}
int Flush(int fd) { return Fails() ? -1 : real.flush(fd); }
int Rename(int from, const char* old_name, int to, const char* new_name, unsigned flags) {
  return Fails() ? -1 : real.rename(from, old_name, to, new_name, flags);
}
int Link(int fd, int directory, const char* name) {
  return Fails() ? -1 : real.link(fd, directory, name);
}

using Tree = std::map<std::string, std::string>;
const Tree kOld = {{"old.txt", "old"}, {"config.json", "old"}};
const Tree kNew = {{"config.json", "{}"}, {"model.safetensors", "weights"}, {"sub/a/b.txt", "b"}};

class LocalFaultsTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    fault = {};
    TheSystemCalls() = {ReadAt, WriteAt, MakeDirectory, Create, Reserve, Flush, Rename, Link};
  }
  void TearDown() override { TheSystemCalls() = real; }

  bool overwrites() const { return GetParam(); }
  Tree before() const { return overwrites() ? kOld : Tree(); }

  // The whole life of an output.
  absl::Status Run(const std::string& path) const {
    ASSIGN_OR_RETURN(const auto output, storage_->CreateDirectory(path, overwrites()));
    for (const auto& [name, content] : kNew) {
      ASSIGN_OR_RETURN(const auto file, output->CreateFile(name, content.size()));
      RETURN_IF_ERROR(
          file->WriteAt(0, {reinterpret_cast<const std::byte*>(content.data()), content.size()}));
      std::string back(content.size(), '?');
      RETURN_IF_ERROR(
          file->ReadAt(0, absl::MakeSpan(reinterpret_cast<std::byte*>(back.data()), back.size())));
      EXPECT_EQ(back, content);
    }
    return output->Commit();
  }
  // A destination as it is before.
  std::string Prepare(int number) const {
    const std::string name = std::to_string(number) + "/out";
    fs::create_directories(directory_ / std::to_string(number));
    for (const auto& [file, content] : before()) directory_.Write(name + "/" + file, content);
    return directory_ / name;
  }
  static Tree TreeOf(const fs::path& path) {
    Tree tree;
    if (!fs::exists(path)) return tree;
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
      if (!entry.is_regular_file()) continue;
      tree[fs::relative(entry.path(), path).string()] = ReadFileText(entry.path());
    }
    return tree;
  }
  static int Beside(const std::string& path) {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(fs::path(path).parent_path())) {
      if (entry.path() != path) ++count;
    }
    return count;
  }
  int CallsOfAGoodRun() const {
    fault = {};
    EXPECT_TRUE(Run(Prepare(1'000'000)).ok());
    return fault.calls;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_ =
      *LocalStorage::Create({.write_roots = {directory_.path().string()}});
};

TEST_P(LocalFaultsTest, NothingPartialIsVisibleWhicheverCallFails) {
  const int calls = CallsOfAGoodRun();
  ASSERT_GT(calls, 20);
  int number = 0;
  for (const bool goes_on : {false, true}) {
    for (int n = 0; n < calls; ++n) {
      const std::string path = Prepare(++number);
      fault = {.at = n, .goes_on = goes_on, .error = goes_on ? ENOSPC : EIO};
      const absl::Status status = Run(path);
      fault = {};
      const std::string where = "call " + std::to_string(n) + " of " + std::to_string(calls) +
                                (goes_on ? " and all after it" : "");
      EXPECT_EQ(Beside(path), 0) << where;
      if (goes_on && !status.ok() && TreeOf(path) == kNew) {
        // Neither flushed nor taken back: whole, though nobody can promise that it lasts.
        EXPECT_GE(n, calls - 2) << where;
        continue;
      }
      EXPECT_EQ(TreeOf(path), status.ok() ? kNew : before()) << where << ": " << status;
      if (status.ok()) continue;
      EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed) << where << ": " << status;
      EXPECT_TRUE(Run(path).ok()) << where << ", again";
      EXPECT_EQ(TreeOf(path), kNew) << where << ", again";
    }
  }
}

TEST_P(LocalFaultsTest, ShortTransfersAreGoneOnWith) {
  const int calls = CallsOfAGoodRun();
  const SystemCalls injected = TheSystemCalls();
  // Only what transfers bytes can be short.
  TheSystemCalls() = real;
  TheSystemCalls().read_at = injected.read_at;
  TheSystemCalls().write_at = injected.write_at;
  for (int n = 0; n < calls; ++n) {
    const std::string path = Prepare(n);
    fault = {.at = n, .goes_on = n % 2 == 0, .is_short = true};
    const absl::Status status = Run(path);
    fault = {};
    EXPECT_TRUE(status.ok()) << n << " " << status;
    EXPECT_EQ(TreeOf(path), kNew) << n;
  }
}

TEST_P(LocalFaultsTest, AnInterruptedCallIsMadeAgain) {
  const int calls = CallsOfAGoodRun();
  const SystemCalls injected = TheSystemCalls();
  TheSystemCalls() = real;
  TheSystemCalls().read_at = injected.read_at;
  TheSystemCalls().write_at = injected.write_at;
  TheSystemCalls().create = injected.create;
  TheSystemCalls().reserve = injected.reserve;
  for (int n = 0; n < calls; ++n) {
    const std::string path = Prepare(n);
    fault = {.at = n, .error = EINTR};
    const absl::Status status = Run(path);
    fault = {};
    EXPECT_TRUE(status.ok()) << n << " " << status;
    EXPECT_EQ(TreeOf(path), kNew) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Output, LocalFaultsTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Replacing" : "New"; });

}  // namespace
}  // namespace linchpin
