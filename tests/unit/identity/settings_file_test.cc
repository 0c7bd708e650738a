#include "identity/settings_file.h"

#include <chrono>
#include <filesystem>
#include <map>

#include "gtest/gtest.h"
#include "tests/support/patience.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using File = ReloadedFile<std::string>;

// Counts how often a text is read.
class Reader {
 public:
  File::Parse parse() {
    return [this](const std::string& path, std::string text) -> absl::StatusOr<std::string> {
      ++read_[text];
      if (text == "bad") return Error(Reason::kOptionInvalid, path, "it is bad");
      return text;
    };
  }
  // Asks `file` until `text` is read, once more than now.
  bool ComesToRead(File& file, const std::string& text) {
    const int before = read_[text];
    return Comes([&] { return file.Get() != nullptr && read_[text] > before; });
  }

 private:
  std::map<std::string, int> read_;
};

bool ComesToSay(File& file, const std::string& text) {
  return Comes([&] { return *file.Get() == text; });
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
  Reader reader;
  const std::string path = directory.Write("file", "one");
  auto file = File::Open(path, reader.parse());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*(*file)->Get(), "one");
  directory.Write("file", "two");  // as long, and perhaps within the same tick of its clock
  EXPECT_TRUE(ComesToSay(**file, "two"));
  directory.Write("file", "bad");
  EXPECT_TRUE(reader.ComesToRead(**file, "bad"));
  EXPECT_EQ(*(*file)->Get(), "two");
  directory.Write("file", "three");
  EXPECT_TRUE(ComesToSay(**file, "three"));
}

TEST(SettingsFile, AFileThatIsGoneLeavesWhatItSaidInForce) {
  TemporaryDirectory directory;
  Reader reader;
  const std::string path = directory.Write("file", "one");
  auto file = File::Open(path, reader.parse());
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::remove(path);
  // Looks at most once a second; this many ask across one look at least.
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(1100)) {
    ASSERT_EQ(*(*file)->Get(), "one");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  directory.Write("file", "two");
  EXPECT_TRUE(ComesToSay(**file, "two"));
}

TEST(SettingsFile, ABadOneIsRefusedAtTheStart) {
  TemporaryDirectory directory;
  Reader reader;
  EXPECT_FALSE(File::Open(directory.Write("file", "bad"), reader.parse()).ok());
  EXPECT_FALSE(File::Open(directory / "absent", reader.parse()).ok());
}

}  // namespace
}  // namespace linchpin
