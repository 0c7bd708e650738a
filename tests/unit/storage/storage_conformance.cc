// Writing, for every back-end that can.
#include "tests/unit/storage/storage_conformance.h"

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_P(StorageConformance, OutputAppearsAtCommitAndNotBefore) {
  Put("present", "x");
  auto output = Create("out");
  Write(*output, "config.json", "{}");
  Write(*output, "sub/dir/a.txt", "abc");
  Write(*output, "sub/b.txt", "");
  EXPECT_EQ(ReasonOf(storage().IsDirectory(Path("out")).status()), Reason::kSourceNotFound);
  EXPECT_THAT(Names(""), ElementsAre("present")) << "the temporary place is hidden";
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_THAT(Names("out"), ElementsAre("config.json", "sub/b.txt", "sub/dir/a.txt"));
  EXPECT_EQ(Read("out/sub/dir/a.txt").value(), "abc");
  output.reset();
  EXPECT_EQ(Read("out/config.json").value(), "{}");
}

TEST_P(StorageConformance, AnOutputTakesFilesOfTheSameStore) {
  Put("part/a.bin", "0123456789");
  Put("part/empty", "");
  auto output = Create("out");
  for (const char* name : {"a.bin", "empty"}) {
    const auto file = storage().Open(Path(std::string("part/") + name));
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(output->TakeFile(std::string("sub/") + name, **file, {}).ok());
    EXPECT_EQ(ReasonOf(output->TakeFile(std::string("sub/") + name, **file, {})),
              Reason::kOutputExists);
    EXPECT_EQ(ReasonOf(output->TakeFile("../x", **file, {})), Reason::kPathNotAllowed);
  }
  Write(*output, "config.json", "{}");
  EXPECT_EQ(ReasonOf(storage().IsDirectory(Path("out")).status()), Reason::kSourceNotFound);
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_EQ(Read("out/sub/a.bin").value(), "0123456789");
  EXPECT_EQ(Read("out/sub/empty").value(), "");
  EXPECT_EQ(Read("part/a.bin").value(), "0123456789") << "it stays where it was";
  ASSERT_TRUE(storage().RemoveDirectory(Path("part")).ok());
  EXPECT_EQ(Read("out/sub/a.bin").value(), "0123456789") << "and is not needed there";
}

TEST_P(StorageConformance, RemovesADirectoryWithAllThatItHolds) {
  Put("d/a/b.bin", "x");
  Put("d/.hidden", "x");
  Put("dd", "x");
  ASSERT_TRUE(storage().RemoveDirectory(Path("d")).ok());
  EXPECT_EQ(ReasonOf(storage().IsDirectory(Path("d")).status()), Reason::kSourceNotFound);
  EXPECT_EQ(ReasonOf(storage().RemoveDirectory(Path("d"))), Reason::kSourceNotFound);
  EXPECT_EQ(Read("dd").value(), "x");
  auto output = Create("d");
  Write(*output, "new", "y");
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_THAT(Names("d"), ElementsAre("new"));
}

TEST_P(StorageConformance, OutputThatIsNotCommittedLeavesNothing) {
  Put("present", "x");
  {
    auto output = Create("out");
    Write(*output, "sub/a.txt", "abc");
  }
  EXPECT_THAT(Names(""), ElementsAre("present"));
  EXPECT_EQ(ReasonOf(storage().IsDirectory(Path("out")).status()), Reason::kSourceNotFound);
}

TEST_P(StorageConformance, WrittenFilesHaveTheirSizeAndAreZeroWhereNothingWasWritten) {
  auto output = Create("out");
  auto file = output->CreateFile("a.bin", 8);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE((*file)->WriteAt(2, Bytes("xy")).ok());
  std::string back(8, '?');
  const auto span = absl::MakeSpan(reinterpret_cast<std::byte*>(back.data()), back.size());
  ASSERT_TRUE((*file)->ReadAt(0, span).ok());
  EXPECT_EQ(back, std::string("\0\0xy\0\0\0\0", 8));
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_EQ(Read("out/a.bin").value(), back);
}

TEST_P(StorageConformance, RefusesToWriteOutsideTheSize) {
  auto output = Create("out");
  auto file = output->CreateFile("a.bin", 4);
  ASSERT_TRUE(file.ok());
  std::byte buffer[8] = {};
  for (const auto& [offset, count] :
       {std::pair<uint64_t, size_t>(0, 5), {4, 1}, {UINT64_MAX, 2}, {5, 0}}) {
    EXPECT_FALSE((*file)->WriteAt(offset, absl::MakeConstSpan(buffer, count)).ok()) << offset;
    EXPECT_FALSE((*file)->ReadAt(offset, absl::MakeSpan(buffer, count)).ok()) << offset;
  }
  EXPECT_TRUE((*file)->WriteAt(4, {}).ok());
}

TEST_P(StorageConformance, IsWrittenByManyThreadsAtOnce) {
  auto output = Create("out");
  constexpr size_t kThreads = 4, kBlock = 1000;
  auto file = output->CreateFile("a.bin", kThreads * kBlock * 5);
  ASSERT_TRUE(file.ok());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::string block(kBlock, static_cast<char>('a' + t));
      for (size_t i = 0; i < 5; ++i) {
        EXPECT_TRUE((*file)->WriteAt((i * kThreads + t) * kBlock, Bytes(block)).ok());
      }
      Write(*output, "nested/" + std::to_string(t), block);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(output->Commit().ok());
  std::string expected;
  for (size_t i = 0; i < 5 * kThreads; ++i) {
    expected += std::string(kBlock, static_cast<char>('a' + i % kThreads));
  }
  EXPECT_EQ(Read("out/a.bin").value(), expected);
  EXPECT_EQ(Names("out").size(), 1 + kThreads);
}

TEST_P(StorageConformance, RefusesNamesThatLeadElsewhere) {
  auto output = Create("out");
  for (const std::string& name :
       {std::string(""), std::string(".."), std::string("../a"), std::string("a/../../b"),
        std::string("/etc/passwd"), std::string("a//b"), std::string("a/"), std::string("./a"),
        std::string("a/."), std::string("a\0b", 3)}) {
    EXPECT_EQ(ReasonOf(output->CreateFile(name, 1).status()), Reason::kPathNotAllowed) << name;
  }
  Write(*output, "a..b", "dots within a name lead nowhere");
  Write(*output, ".gitattributes", "");
}

TEST_P(StorageConformance, RefusesTheSameFileTwice) {
  auto output = Create("out");
  Write(*output, "a", "1");
  EXPECT_EQ(ReasonOf(output->CreateFile("a", 1).status()), Reason::kOutputExists);
}

TEST_P(StorageConformance, RefusesAnOutputThatExists) {
  Put("out/a", "old");
  Put("file", "old");
  for (const char* name : {"out", "out/", "file"}) {
    const absl::Status status = storage().CreateDirectory(Path(name), false).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOutputExists) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("overwrite"));
  }
  EXPECT_EQ(Read("out/a").value(), "old");
}

TEST_P(StorageConformance, RefusesAnOutputThatCameMeanwhile) {
  auto output = Create("out");
  Write(*output, "a", "new");
  Put("out/b", "of somebody else");
  EXPECT_EQ(ReasonOf(output->Commit()), Reason::kOutputExists);
  output.reset();
  EXPECT_THAT(Names("out"), ElementsAre("b"));
}

TEST_P(StorageConformance, OverwritesADirectoryWhole) {
  Put("out/a", "old");
  Put("out/sub/deep/b", "old");
  auto output = Create("out", true);
  Write(*output, "a", "new");
  EXPECT_EQ(Read("out/a").value(), "old") << "until the commit";
  ASSERT_TRUE(output->Commit().ok());
  output.reset();
  EXPECT_THAT(Names("out"), ElementsAre("a"));
  EXPECT_EQ(Read("out/a").value(), "new");
  EXPECT_THAT(Names(""), ElementsAre("out/a"));
}

TEST_P(StorageConformance, OverwritingNothingIsCreating) {
  auto output = Create("out", true);
  Write(*output, "a", "new");
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_EQ(Read("out/a").value(), "new");
}

TEST_P(StorageConformance, DoesNotOverwriteAFile) {
  Put("file", "old");
  EXPECT_EQ(ReasonOf(storage().CreateDirectory(Path("file"), true).status()),
            Reason::kOutputExists);
  EXPECT_EQ(Read("file").value(), "old");
}

TEST_P(StorageConformance, AnOverwriteThatIsNotCommittedKeepsTheOld) {
  Put("out/a", "old");
  {
    auto output = Create("out", true);
    Write(*output, "a", "new");
  }
  EXPECT_EQ(Read("out/a").value(), "old");
}

TEST_P(StorageConformance, RefusesASizeThatCannotBeStored) {
  auto output = Create("out");
  for (const uint64_t size : {UINT64_MAX, uint64_t{1} << 62}) {
    EXPECT_EQ(ReasonOf(output->CreateFile("huge", size).status()), Reason::kStorageFailed);
    output = Create("out");
  }
}

}  // namespace
}  // namespace linchpin
