#include "identity/settings_file.h"

#include <filesystem>
#include <thread>

#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using File = ReloadedFile<std::string>;

absl::StatusOr<std::string> Parse(const std::string& path, std::string text) {
  if (text == "bad") return Error(Reason::kOptionInvalid, path, "it is bad");
  return text;
}

// Until `file` says `text`, for at most five seconds.
bool ComesToSay(File& file, const std::string& text) {
  for (int i = 0; i < 100; ++i) {
    if (*file.Get() == text) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

TEST(SettingsFile, IsReadWhole) {
  TemporaryDirectory directory;
  const auto text = ReadSettingsFile(directory.Write("file", "some text\n"));
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, "some text\n");
  for (const std::string& path : {directory / "absent", directory.path().string(),
                                  directory.Write("large", std::string(2 << 20, 'a'))}) {
    EXPECT_EQ(ReasonOf(ReadSettingsFile(path).status()), Reason::kOptionInvalid) << path;
  }
}

TEST(SettingsFile, AChangeIsTakenUpAndABadOneIsNot) {
  TemporaryDirectory directory;
  const std::string path = directory.Write("file", "one");
  auto file = File::Open(path, Parse);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*(*file)->Get(), "one");
  directory.Write("file", "two");
  EXPECT_TRUE(ComesToSay(**file, "two"));
  directory.Write("file", "bad");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(*(*file)->Get(), "two");
  std::filesystem::remove(path);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(*(*file)->Get(), "two");
  directory.Write("file", "three");
  EXPECT_TRUE(ComesToSay(**file, "three"));
}

TEST(SettingsFile, ABadOneIsRefusedAtTheStart) {
  TemporaryDirectory directory;
  EXPECT_FALSE(File::Open(directory.Write("file", "bad"), Parse).ok());
  EXPECT_FALSE(File::Open(directory / "absent", Parse).ok());
}

}  // namespace
}  // namespace linchpin
