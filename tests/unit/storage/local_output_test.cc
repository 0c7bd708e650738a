#include "storage/local_output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "tests/support/shared.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class LocalOutputTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<OutputDirectory>> Create(std::string_view name,
                                                          bool overwrite = false) {
    return storage_->CreateDirectory(directory_ / name, overwrite);
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_.path())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  // A directory as a killed process would leave it behind.
  std::string LeaveBehind(const std::string& name, int seconds_ago) {
    const std::string path = directory_ / name;
    directory_.Write(name + "/sub/model.safetensors", "half");
    const timespec times[2] = {{time(nullptr) - seconds_ago, 0}, {time(nullptr) - seconds_ago, 0}};
    EXPECT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    return path;
  }

  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_ =
      *LocalStorage::Create({.write_roots = {directory_.path().string()}});
};

TEST_F(LocalOutputTest, TakesAFileAsAHardLink) {
  directory_.Write("part/a.bin", "0123");
  const auto output = Create("out");
  ASSERT_TRUE(output.ok()) << output.status();
  const auto file = storage_->Open(directory_ / "part/a.bin");
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*output)->TakeFile("a.bin", **file, {}).ok());
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_TRUE(fs::equivalent(directory_ / "out/a.bin", directory_ / "part/a.bin"));
}

TEST_F(LocalOutputTest, RemovingTakesAwayWhatDeadProcessesLeft) {
  directory_.Write("out/a", "1");
  LeaveBehind(".out.linchpin-abcdef", 0);
  const auto alive = Create("out", true);
  ASSERT_TRUE(alive.ok());
  ASSERT_TRUE(storage_->RemoveDirectory(directory_ / "out").ok());
  ASSERT_EQ(Names().size(), 1U) << "that of the living stays";
  EXPECT_NE(Names()[0], ".out.linchpin-abcdef");
}

TEST_F(LocalOutputTest, CopiesWhereThereAreNoLinks) {
  directory_.Write("part/a.bin", "0123");
  const auto output = Create("out");
  const auto file = storage_->Open(directory_ / "part/a.bin");
  const auto real = TheSystemCalls().link;
  TheSystemCalls().link = [](int, int, const char*) {
    errno = EXDEV;
    return -1;
  };
  const absl::Status status = (*output)->TakeFile("a.bin", **file, {});
  TheSystemCalls().link = real;
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_FALSE(fs::equivalent(directory_ / "out/a.bin", directory_ / "part/a.bin"));
  EXPECT_EQ(ReadText(*storage_, directory_ / "out/a.bin", 100).value_or(""), "0123");
}

TEST_F(LocalOutputTest, ACopyEndsWithTheJob) {
  directory_.Write("part/a.bin", std::string(3 << 20, 'x'));
  const auto output = Create("out");
  const auto file = storage_->Open(directory_ / "part/a.bin");
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(
      ReasonOf((*output)->OutputDirectory::TakeFile("a.bin", **file, {.stop = stop.get_token()})),
      Reason::kCancelled);
}

TEST_F(LocalOutputTest, WorksInAHiddenDirectoryBesideTheDestination) {
  {
    const auto output = Create("out");
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_THAT(Names(), ElementsAre(StartsWith(".out.linchpin-")));
  }
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(LocalOutputTest, ReservesTheWholeFileAtOnce) {
  const auto output = Create("out");
  ASSERT_TRUE(output.ok());
  const auto file = (*output)->CreateFile("a", 1 << 20);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(fs::file_size(directory_.path() / Names()[0] / "a"), uintmax_t{1} << 20);
}

TEST_F(LocalOutputTest, NeedsAParentThatExists) {
  const absl::Status status = Create("none/out").status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("create it"));
  directory_.Write("file", "x");
  EXPECT_FALSE(Create("file/out").ok());
}

TEST_F(LocalOutputTest, ARootIsNoOutput) {
  const std::string root = directory_.path().string();
  for (const std::string& path : {root, root + "/", root + "/x/.."}) {
    EXPECT_EQ(ReasonOf(storage_->CreateDirectory(path, true).status()), Reason::kPathNotAllowed);
  }
  const auto everywhere = LocalStorage::Create({.write_roots = {"/"}});
  ASSERT_TRUE(everywhere.ok());
  EXPECT_EQ(ReasonOf((*everywhere)->CreateDirectory("/", true).status()), Reason::kPathNotAllowed);
}

TEST_F(LocalOutputTest, ReplacesNoLinkAndWritesThroughNone) {
  directory_.Write("target/keep", "x");
  fs::create_directory_symlink(directory_ / "target", directory_ / "link");
  EXPECT_EQ(ReasonOf(Create("link").status()), Reason::kOutputExists);
  EXPECT_EQ(ReasonOf(Create("link", true).status()), Reason::kOutputExists);
  EXPECT_EQ(ReasonOf(Create("link/out").status()), Reason::kPathNotAllowed);
  fs::create_symlink("nowhere", directory_ / "dangling");
  EXPECT_EQ(ReasonOf(Create("dangling").status()), Reason::kOutputExists);
  EXPECT_TRUE(fs::exists(directory_ / "target/keep"));
}

TEST_F(LocalOutputTest, RemovingWhatWasReplacedFollowsNoLink) {
  directory_.Write("target/keep", "x");
  fs::create_directory(directory_ / "out");
  fs::create_directory_symlink(directory_ / "target", directory_ / "out/link");
  const auto output = Create("out", true);
  ASSERT_TRUE(output.ok());
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_TRUE(fs::exists(directory_ / "target/keep"));
  EXPECT_TRUE(fs::is_empty(directory_ / "out"));
}

TEST_F(LocalOutputTest, RemovesWhatAKilledProcessLeft) {
  LeaveBehind(".out.linchpin-abc123", 3600);
  LeaveBehind(".other.linchpin-abc123", 3600);
  LeaveBehind(".out.linchpin-abc1234", 3600);
  LeaveBehind(".out.linchpin-young1", 0);
  {
    const auto output = Create("out");
    ASSERT_TRUE(output.ok());
    ASSERT_TRUE((*output)->CreateFile("a", 1).ok());
  }
  EXPECT_THAT(Names(), ElementsAre(".other.linchpin-abc123", ".out.linchpin-abc1234"));
}

// As a plan does, which asks whether it could write there.
TEST_F(LocalOutputTest, RemovesNothingBeforeItWrites) {
  LeaveBehind(".out.linchpin-abcdef", 3600);
  EXPECT_TRUE(Create("out").ok());
  EXPECT_THAT(Names(), ElementsAre(".out.linchpin-abcdef"));
  auto output = storage_->ResumeDirectory(directory_ / "out", false, "abcdef");
  ASSERT_TRUE(output.ok());
  const auto file = (*output)->CreateFile("sub/model.safetensors", 4);
  ASSERT_TRUE(file.ok());
  std::byte first;
  ASSERT_TRUE((*file)->ReadAt(0, {&first, 1}).ok());
  EXPECT_EQ(first, std::byte{'h'}) << "and what was left can still be gone on with";
}

// A directory that was just made and is not locked yet looks like one that was left.
TEST_F(LocalOutputTest, AWriterWhosePlaceIsRemovedAtOnceTakesAnother) {
  static int times;
  static const auto real = TheSystemCalls().make_directory;
  times = 3;
  TheSystemCalls().make_directory = [](int directory, const char* name, mode_t mode) {
    const int result = real(directory, name, mode);
    if (times-- > 0) unlinkat(directory, name, AT_REMOVEDIR);
    return result;
  };
  const auto output = Create("out");
  TheSystemCalls().make_directory = real;
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_LT(times, 0);
  ASSERT_TRUE((*output)->CreateFile("a", 1).ok());
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_THAT(Names(), ElementsAre("out"));
}

TEST_F(LocalOutputTest, AWriterLeavesAPlaceThatIsBeingRemoved) {
  static int locked;
  static const auto real = TheSystemCalls().make_directory;
  locked = -1;
  TheSystemCalls().make_directory = [](int directory, const char* name, mode_t mode) {
    const int result = real(directory, name, mode);
    if (locked >= 0) return result;
    locked = openat(directory, name, O_RDONLY | O_DIRECTORY);
    flock(locked, LOCK_EX);
    return result;
  };
  const auto output = Create("out");
  TheSystemCalls().make_directory = real;
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(Names().size(), 2U) << "a place of its own";
  close(locked);
}

// What a killed process leaves, as far as another can see: nobody holds its lock.
TEST_F(LocalOutputTest, TakesOverWhatTheSameKeyLeft) {
  directory_.Write(".out.linchpin-abcdef/kept", "half");
  directory_.Write(".out.linchpin-abcdef/sub/stray", "x");
  directory_.Write(".out.linchpin-abcdef/.linchpin-notes", "one\ntw");
  auto output = storage_->ResumeDirectory(directory_ / "out", false, "abcdef123");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_TRUE((*output)->KeepsNotes());
  EXPECT_EQ(*(*output)->EarlierNotes(), "one\ntw");
  ASSERT_TRUE((*output)->Note("o\n").ok());
  const auto kept = (*output)->CreateFile("kept", 4);
  ASSERT_TRUE(kept.ok()) << kept.status();
  char bytes[4];
  ASSERT_TRUE((*kept)->ReadAt(0, {reinterpret_cast<std::byte*>(bytes), 4}).ok());
  EXPECT_EQ(std::string(bytes, 4), "half");
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_THAT(Names(), ElementsAre("out"));
  std::vector<std::string> inside;
  for (const auto& entry : fs::recursive_directory_iterator(directory_ / "out")) {
    inside.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(inside, ElementsAre("kept"));
}

TEST_F(LocalOutputTest, AFileOfAnotherSizeIsNotTakenOver) {
  directory_.Write(".out.linchpin-abcdef/a", "xxxx");
  auto output = storage_->ResumeDirectory(directory_ / "out", false, "abcdef");
  ASSERT_TRUE(output.ok());
  const auto file = (*output)->CreateFile("a", 6);
  ASSERT_TRUE(file.ok());
  std::byte bytes[6];
  ASSERT_TRUE((*file)->ReadAt(0, absl::MakeSpan(bytes)).ok());
  EXPECT_EQ(bytes[0], std::byte{0});
}

TEST_F(LocalOutputTest, TheSameKeyTwiceAtOnceWorksInTwoPlaces) {
  auto first = storage_->ResumeDirectory(directory_ / "out", false, "abcdef");
  auto second = storage_->ResumeDirectory(directory_ / "out", false, "abcdef");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_TRUE((*first)->KeepsNotes());
  EXPECT_FALSE((*second)->KeepsNotes());
  EXPECT_EQ(Names().size(), 2U);
  first->reset();
  second->reset();
  EXPECT_THAT(Names(), IsEmpty()) << "without a commit nothing is left";
}

TEST_F(LocalOutputTest, AKeyThatIsNoPartOfANameIsNone) {
  for (const char* key : {"", "abc", "../../x", "abc/def", "abcde."}) {
    auto output = storage_->ResumeDirectory(directory_ / "out", false, key);
    ASSERT_TRUE(output.ok()) << key;
    EXPECT_FALSE((*output)->KeepsNotes()) << key;
  }
}

TEST_F(LocalOutputTest, TheVersionOfAFileTellsEveryChange) {
  directory_.Write("f", "1");
  const auto version = [&] { return (*storage_->Open(directory_ / "f"))->Version(); };
  const std::string before = version();
  EXPECT_FALSE(before.empty());
  EXPECT_EQ(version(), before);
  const auto time = fs::last_write_time(directory_.path() / "f");
  directory_.AwaitTick();
  directory_.Write("f", "2");
  fs::last_write_time(directory_.path() / "f", time);
  EXPECT_NE(version(), before) << "same size, same time of modification";
}

TEST_F(LocalOutputTest, KeepsWhatALivingProcessWritesTo) {
  const std::string path = LeaveBehind(".out.linchpin-living", 3600);
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  ASSERT_TRUE((*Create("out"))->CreateFile("a", 1).ok());
  EXPECT_TRUE(fs::exists(path));
  close(fd);
  ASSERT_TRUE((*Create("out"))->CreateFile("a", 1).ok());
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(LocalOutputTest, TwoWritersOfOneOutputGiveOneWinner) {
  auto first = Create("out");
  auto second = Create("out");
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE((*first)->CreateFile("first", 1).ok());
  ASSERT_TRUE((*second)->CreateFile("second", 1).ok());
  EXPECT_TRUE((*second)->Commit().ok());
  EXPECT_EQ(ReasonOf((*first)->Commit()), Reason::kOutputExists);
  first->reset();
  EXPECT_THAT(Names(), ElementsAre("out"));
  EXPECT_TRUE(fs::exists(directory_ / "out/second"));
}

TEST_F(LocalOutputTest, AFileThatDoesNotFitFailsBeforeAnythingIsWritten) {
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit low = {1 << 16, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  {
    const auto output = Create("out");
    ASSERT_TRUE(output.ok());
    const absl::Status status = (*output)->CreateFile("a", 1 << 20).status();
    EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed);
    EXPECT_THAT(std::string(status.message()), HasSubstr("out/a: cannot allocate"));
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(LocalOutputTest, LongNamesStillHaveATemporaryName) {
  const std::string name(250, 'n');
  const auto output = Create(name);
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_THAT(Names(), ElementsAre(name));
}

TEST_F(LocalOutputTest, NothingIsLeftOfAFailedCommit) {
  auto output = Create("out");
  ASSERT_TRUE(output.ok());
  ASSERT_TRUE((*output)->CreateFile("a", 1).ok());
  fs::remove(directory_.path() / Names()[0] / "a");  // as if the disk had lost it
  const absl::Status status = (*output)->Commit();
  EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("out/a"));
  output->reset();
  EXPECT_THAT(Names(), IsEmpty());
}

}  // namespace
}  // namespace linchpin
