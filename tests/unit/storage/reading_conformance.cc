// Reading, for every back-end, and listing, for those that know directories.
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "tests/unit/storage/storage_conformance.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_P(ReadConformance, ReadsRanges) {
  Put("a.bin", "0123456789");
  const auto file = storage().Open(Path("a.bin"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 10u);
  EXPECT_EQ(Range(**file, 0, 10).value(), "0123456789");
  EXPECT_EQ(Range(**file, 3, 4).value(), "3456");
  EXPECT_EQ(Range(**file, 10, 0).value(), "");
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
}

TEST_P(ReadConformance, RefusesToReadPastTheEnd) {
  Put("a.bin", "0123456789");
  const auto file = storage().Open(Path("a.bin"));
  ASSERT_TRUE(file.ok());
  for (const auto& [offset, count] : {std::pair<uint64_t, size_t>(5, 6), {10, 1}, {1 << 20, 4}}) {
    const absl::Status status = Range(**file, offset, count).status();
    EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged) << offset;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a.bin"));
  }
}

TEST_P(ReadConformance, ReadsAnEmptyFile) {
  Put("empty", "");
  const auto file = storage().Open(Path("empty"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 0u);
  EXPECT_EQ(Read("empty").value(), "");
}

TEST_P(ReadConformance, IsReadByManyThreadsAtOnce) {
  std::string content;
  for (int i = 0; i < 4096; ++i) content += static_cast<char>(i % 251);
  Put("a.bin", content);
  const auto file = storage().Open(Path("a.bin"));
  ASSERT_TRUE(file.ok());
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < 4000; i += 7) {
        if (Range(**file, i, 96).value_or("") != content.substr(i, 96)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(ReadConformance, ReadsTextUpToALimit) {
  Put("t", "12345");
  EXPECT_EQ(ReadText(storage(), Path("t"), 5).value(), "12345");
  const absl::Status status = ReadText(storage(), Path("t"), 4).status();
  EXPECT_EQ(ReasonOf(status), Reason::kHeaderInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("5 bytes"));
}

TEST_P(ReadConformance, SaysOfAFileThatIsNotThereThatItIsNot) {
  Put("d/a.bin", "x");
  for (const char* name : {"none", "d/none", "none/a.bin"}) {
    EXPECT_EQ(ReasonOf(storage().Open(Path(name)).status()), Reason::kSourceNotFound) << name;
    EXPECT_EQ(ReasonOf(storage().IsDirectory(Path(name)).status()), Reason::kSourceNotFound);
  }
  EXPECT_FALSE(storage().IsDirectory(Path("d/a.bin")).value());
}

TEST_P(ListConformance, ReportsWhatIsNotThere) {
  Put("d/a.bin", "x");
  for (const char* name : {"none", "d/none", "d/a.bin/none", "none/a.bin"}) {
    EXPECT_EQ(ReasonOf(storage().Open(Path(name)).status()), Reason::kSourceNotFound) << name;
    EXPECT_EQ(ReasonOf(storage().List(Path(name)).status()), Reason::kSourceNotFound) << name;
    EXPECT_EQ(ReasonOf(storage().IsDirectory(Path(name)).status()), Reason::kSourceNotFound);
  }
  EXPECT_THAT(std::string(storage().Open(Path("none")).status().message()), HasSubstr("none"));
}

TEST_P(ListConformance, ADirectoryIsNoFileAndAFileNoDirectory) {
  Put("d/a.bin", "x");
  EXPECT_TRUE(storage().IsDirectory(Path("d")).value());
  EXPECT_TRUE(storage().IsDirectory(Path("d/")).value());
  EXPECT_FALSE(storage().IsDirectory(Path("d/a.bin")).value());
  EXPECT_EQ(ReasonOf(storage().Open(Path("d")).status()), Reason::kPathNotAllowed);
  EXPECT_EQ(ReasonOf(storage().List(Path("d/a.bin")).status()), Reason::kSourceNotFound);
}

TEST_P(ListConformance, ListsRecursivelySortedWithoutHiddenFiles) {
  Put("d/b.txt", "12");
  Put("d/a/z.txt", "");
  Put("d/a/deep/er.txt", "123");
  Put("d/.hidden", "x");
  Put("d/.git/config", "x");
  Put("d/a/.hidden", "x");
  Put("dd/other", "x");
  const auto entries = storage().List(Path("d"));
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_THAT(Names("d"), ElementsAre("a/deep/er.txt", "a/z.txt", "b.txt"));
  EXPECT_EQ((*entries)[0].size, 3u);
  EXPECT_EQ((*entries)[2].size, 2u);
  EXPECT_THAT(Names("d/"), ElementsAre("a/deep/er.txt", "a/z.txt", "b.txt"));
}

}  // namespace
}  // namespace linchpin
