#include "storage/local_storage.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// root/ may be read, secret/ beside it may not.
class LocalStorageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_.Write("root/a.txt", "inside");
    directory_.Write("secret/key", "outside");
  }
  std::unique_ptr<LocalStorage> Make(bool allow_symlinks = false, const char* root = "root") {
    auto storage =
        LocalStorage::Create({.read_roots = {directory_ / root}, .allow_symlinks = allow_symlinks});
    EXPECT_TRUE(storage.ok()) << storage.status();
    return *std::move(storage);
  }
  static Reason OpenReason(const Storage& storage, const std::string& path) {
    return ReasonOf(storage.Open(path).status());
  }

  TemporaryDirectory directory_;
};

TEST_F(LocalStorageTest, RootsMustBeExistingAbsoluteDirectories) {
  for (const std::string& root :
       {std::string("relative"), std::string(""), directory_ / "none", directory_ / "root/a.txt"}) {
    const auto storage = LocalStorage::Create({.read_roots = {root}});
    EXPECT_EQ(ReasonOf(storage.status()), Reason::kOptionInvalid) << root;
    EXPECT_EQ(ReasonOf(LocalStorage::Create({.write_roots = {root}}).status()),
              Reason::kOptionInvalid);
  }
}

TEST_F(LocalStorageTest, RefusesEveryWayOutOfItsRoots) {
  const auto storage = Make();
  for (const std::string& path :
       {directory_ / "secret/key", directory_ / "root/../secret/key", std::string("/etc/passwd"),
        directory_ / "root/a/../../secret/key", std::string("/"), std::string("root/a.txt"),
        std::string(""), directory_ / "roo", directory_ / "rootless/x",
        "/proc/self/root" + (directory_ / "root/a.txt"),
        directory_ / std::string_view("root/a.txt\0", 11)}) {
    EXPECT_EQ(OpenReason(*storage, path), Reason::kPathNotAllowed) << path;
    EXPECT_EQ(ReasonOf(storage->List(path).status()), Reason::kPathNotAllowed) << path;
    EXPECT_EQ(ReasonOf(storage->IsDirectory(path).status()), Reason::kPathNotAllowed) << path;
  }
}

TEST_F(LocalStorageTest, SaysNothingOfWhatExistsOutside) {
  const auto storage = Make();
  const auto message = [&](const std::string& path) {
    std::string text(storage->Open(path).status().message());
    return text.substr(path.size());
  };
  EXPECT_EQ(message(directory_ / "secret/key"), message(directory_ / "secret/nope"));
  EXPECT_EQ(message(directory_ / "secret"), message(directory_ / "nowhere/at/all"));
}

TEST_F(LocalStorageTest, AllowsTheSpellingsOfAPathInside) {
  const auto storage = Make();
  for (const char* path : {"root/a.txt", "root//a.txt", "root/./a.txt", "root/x/../a.txt",
                           "secret/../root/a.txt", "/root/a.txt"}) {
    EXPECT_TRUE(storage->Open(directory_ / "" + path).ok()) << path;
  }
  EXPECT_TRUE(storage->IsDirectory(directory_ / "root/").value());
}

TEST_F(LocalStorageTest, ARootMayItselfBeALink) {
  fs::create_directory_symlink(directory_ / "root", directory_ / "link");
  EXPECT_TRUE(Make(false, "link")->Open(directory_ / "link/a.txt").ok());
}

TEST_F(LocalStorageTest, FollowsNoLinksUnlessAllowed) {
  fs::create_symlink("a.txt", directory_ / "root/inner");
  fs::create_directory_symlink(".", directory_ / "root/here");
  fs::create_symlink(directory_ / "secret/key", directory_ / "root/outer");
  const auto storage = Make();
  for (const char* name : {"root/inner", "root/outer", "root/here/a.txt"}) {
    const absl::Status status = storage->Open(directory_ / name).status();
    EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("copy"));
  }
  const absl::Status listing = storage->List(directory_ / "root").status();
  EXPECT_EQ(ReasonOf(listing), Reason::kPathNotAllowed);
  EXPECT_THAT(std::string(listing.message()), HasSubstr("symbolic link"));
}

TEST_F(LocalStorageTest, FollowsLinksThatStayBeneathWhenAllowed) {
  directory_.Write("root/blobs/1", "blob");
  fs::create_directories(directory_ / "root/snapshot");
  fs::create_symlink("../blobs/1", directory_ / "root/snapshot/model");
  fs::create_symlink(directory_ / "secret/key", directory_ / "root/snapshot2");
  fs::create_symlink("../secret/key", directory_ / "root/snapshot3");
  fs::create_symlink("../secret/nope", directory_ / "root/snapshot4");
  const auto storage = Make(true);
  EXPECT_EQ(ReadText(*storage, directory_ / "root/snapshot/model", 10).value(), "blob");
  const auto entries = storage->List(directory_ / "root/snapshot");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ((*entries)[0].size, 4u);
  for (const char* name : {"root/snapshot2", "root/snapshot3", "root/snapshot4"}) {
    EXPECT_EQ(OpenReason(*storage, directory_ / name), Reason::kPathNotAllowed) << name;
  }
}

TEST_F(LocalStorageTest, FollowsAbsoluteLinksWhereEverythingIsARoot) {
  fs::create_symlink(directory_ / "secret/key", directory_ / "root/absolute");
  const auto storage = LocalStorage::Create({.read_roots = {"/"}, .allow_symlinks = true});
  ASSERT_TRUE(storage.ok());
  EXPECT_EQ(ReadText(**storage, directory_ / "root/absolute", 10).value(), "outside");
  EXPECT_EQ(OpenReason(**storage, "/proc/self/exe"), Reason::kPathNotAllowed) << "a magic link";
}

TEST_F(LocalStorageTest, OpensOnlyRegularFilesAndIsNotBlockedByAFifo) {
  ASSERT_EQ(mkfifo((directory_ / "root/fifo").c_str(), 0600), 0);
  const auto storage = Make();
  EXPECT_EQ(OpenReason(*storage, directory_ / "root/fifo"), Reason::kPathNotAllowed);
  EXPECT_EQ(OpenReason(*storage, directory_ / "root"), Reason::kPathNotAllowed);
  const auto devices = LocalStorage::Create({.read_roots = {"/dev"}});
  ASSERT_TRUE(devices.ok());
  EXPECT_EQ(OpenReason(**devices, "/dev/null"), Reason::kPathNotAllowed);
  const auto entries = storage->List(directory_ / "root");
  ASSERT_TRUE(entries.ok());
  EXPECT_EQ(entries->size(), 1u) << "the FIFO is not listed";
}

TEST_F(LocalStorageTest, NoticesAChange) {
  const auto storage = Make();
  const auto file = storage->Open(directory_ / "root/a.txt");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
  fs::last_write_time(directory_ / "root/a.txt",
                      fs::last_write_time(directory_ / "root/a.txt") + std::chrono::seconds(1));
  const absl::Status status = (*file)->CheckUnchanged();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.txt"));
}

TEST_F(LocalStorageTest, AFileReplacedByAnotherIsStillTheOneThatWasOpened) {
  const auto storage = Make();
  const auto file = storage->Open(directory_ / "root/a.txt");
  ASSERT_TRUE(file.ok());
  directory_.Write("root/b.txt", "another");
  fs::rename(directory_ / "root/b.txt", directory_ / "root/a.txt");
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
  std::string text(6, '?');
  ASSERT_TRUE(
      (*file)->ReadAt(0, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), 6)).ok());
  EXPECT_EQ(text, "inside");
}

TEST_F(LocalStorageTest, ListsNoDeeperThanIsSane) {
  std::string deep = "root";
  for (int i = 0; i < 20; ++i) deep += "/d";
  directory_.Write(deep + "/file", "x");
  EXPECT_EQ(ReasonOf(Make()->List(directory_ / "root").status()), Reason::kStorageFailed);
}

TEST_F(LocalStorageTest, UsesWhicheverRootHoldsThePath) {
  directory_.Write("other/b.txt", "x");
  const auto storage = LocalStorage::Create(
      {.read_roots = {directory_ / "root"}, .write_roots = {directory_ / "other"}});
  ASSERT_TRUE(storage.ok());
  EXPECT_TRUE((*storage)->Open(directory_ / "root/a.txt").ok());
  EXPECT_TRUE((*storage)->Open(directory_ / "other/b.txt").ok()) << "what is written can be read";
  EXPECT_EQ(ReasonOf((*storage)->CreateDirectory(directory_ / "root/out", false).status()),
            Reason::kPathNotAllowed);
  EXPECT_TRUE((*storage)->CreateDirectory(directory_ / "other/out", false).ok());
}

TEST_F(LocalStorageTest, LeaksNoDescriptor) {
  const auto count = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  fs::create_directories(directory_ / "root/d/e");
  fs::create_symlink("a.txt", directory_ / "root/d/link");
  const auto storage = LocalStorage::Create({.write_roots = {directory_ / "root"}});
  ASSERT_TRUE(storage.ok());
  const auto before = count();
  for (int i = 0; i < 3; ++i) {
    (void)(*storage)->Open(directory_ / "root/a.txt");
    (void)(*storage)->Open(directory_ / "root/none");
    (void)(*storage)->Open(directory_ / "root");
    (void)(*storage)->List(directory_ / "root");
    (void)(*storage)->List(directory_ / "root/d/e");
    (void)(*storage)->IsDirectory(directory_ / "root/d");
    auto output = (*storage)->CreateDirectory(directory_ / "root/out", true);
    ASSERT_TRUE(output.ok());
    (void)(*output)->CreateFile("x/y", 10);
    (void)(*output)->CreateFile("x", 10);
    if (i == 1) {
      ASSERT_TRUE((*output)->Commit().ok());
    }
  }
  EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace linchpin
