#include "storage/stoppable_storage.h"

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/watched_storage.h"

namespace linchpin {
namespace {

class StoppableStorageTest : public testing::Test {
 protected:
  std::string Path(std::string_view name) const { return directory_ / name; }

  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> local_ =
      *LocalStorage::Create({.write_roots = {directory_.path().string()}});
  std::stop_source stop_;
  StopAt watch_{-1};
  WatchedStorage watched_{*local_, watch_};
  StoppableStorage storage_{watched_, stop_.get_token()};
};

TEST_F(StoppableStorageTest, BeginsNothingAfterAStop) {
  directory_.Write("file", "content");
  const auto file = storage_.Open(Path("file"));
  const auto output = storage_.CreateDirectory(Path("out"), false);
  ASSERT_TRUE(file.ok() && output.ok());
  const auto written = (*output)->CreateFile("a", 1);
  ASSERT_TRUE(written.ok());
  stop_.request_stop();
  const int begun = watch_.begun();
  std::byte byte{};
  const std::vector<std::function<absl::Status()>> everything = {
      [&] { return storage_.Open(Path("file")).status(); },
      [&] { return storage_.List(Path("")).status(); },
      [&] { return storage_.IsDirectory(Path("")).status(); },
      [&] { return storage_.CreateDirectory(Path("new"), false).status(); },
      [&] { return storage_.ResumeDirectory(Path("new"), false, "abcdef").status(); },
      [&] { return storage_.RemoveDirectory(Path("out")); },
      [&] {
        return (*file)->ReadAt(0, {&byte, 1});
      },
      [&] { return (*file)->CheckUnchanged(); },
      [&] { return (*output)->CreateFile("b", 1).status(); },
      [&] { return (*output)->TakeFile("b", **file, {}); },
      [&] { return (*output)->Note("note"); },
      [&] {
        return (*written)->WriteAt(0, {&byte, 1});
      },
      [&] {
        return (*written)->ReadAt(0, {&byte, 1});
      },
      [&] { return (*output)->Commit(); },
  };
  for (size_t i = 0; i < everything.size(); ++i) {
    EXPECT_EQ(ReasonOf(everything[i]()), Reason::kCancelled) << i;
  }
  EXPECT_EQ(watch_.begun(), begun);
}

// Where a store links its own files instead of copying them, it still knows them.
TEST_F(StoppableStorageTest, TakesFilesOverAsTheStoreDoes) {
  directory_.Write("file", "content");
  const StoppableStorage storage(*local_, std::stop_token());
  const auto file = storage.Open(Path("file"));
  const auto output = storage.CreateDirectory(Path("out"), false);
  ASSERT_TRUE(file.ok() && output.ok());
  ASSERT_TRUE((*output)->TakeFile("taken", **file, {}).ok());
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_EQ(std::filesystem::hard_link_count(Path("file")), 2U);
}

}  // namespace
}  // namespace linchpin
