// What every back-end of Storage must do, whatever it stores into.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "storage/storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A store with a place in it that exists and is empty or nearly so.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const Storage& storage() const = 0;
  virtual std::string Path(std::string_view name) const = 0;
  virtual void Put(std::string_view name, std::string_view content) = 0;
};

class LocalBackend : public Backend {
 public:
  LocalBackend() {
    const std::string root = directory_.path().string();
    storage_ = *LocalStorage::Create({.write_roots = {root}});
  }
  const Storage& storage() const override { return *storage_; }
  std::string Path(std::string_view name) const override { return directory_ / name; }
  void Put(std::string_view name, std::string_view content) override {
    directory_.Write(name, content);
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<LocalStorage> storage_;
};

class MemoryBackend : public Backend {
 public:
  const Storage& storage() const override { return storage_; }
  std::string Path(std::string_view name) const override { return "store/" + std::string(name); }
  void Put(std::string_view name, std::string_view content) override {
    storage_.Put(Path(name), ToBytes(content));
  }

 private:
  MemoryStorage storage_;
};

template <class T>
std::unique_ptr<Backend> Make() {
  return std::make_unique<T>();
}

using MakeBackend = std::unique_ptr<Backend> (*)();

class StorageConformance : public ::testing::TestWithParam<MakeBackend> {
 protected:
  const Storage& storage() const { return backend_->storage(); }
  std::string Path(std::string_view name) const { return backend_->Path(name); }
  void Put(std::string_view name, std::string_view content) { backend_->Put(name, content); }

  absl::StatusOr<std::string> Read(std::string_view name) const {
    return ReadText(storage(), Path(name), 1 << 20);
  }
  std::vector<std::string> Names(std::string_view directory) const {
    std::vector<std::string> names;
    const auto entries = storage().List(Path(directory));
    EXPECT_TRUE(entries.ok()) << entries.status();
    if (entries.ok()) {
      for (const FileEntry& entry : *entries) names.push_back(entry.name);
    }
    return names;
  }
  std::unique_ptr<OutputDirectory> Create(std::string_view name, bool overwrite = false) const {
    auto output = storage().CreateDirectory(Path(name), overwrite);
    EXPECT_TRUE(output.ok()) << output.status();
    return output.ok() ? *std::move(output) : nullptr;
  }
  static void Write(OutputDirectory& output, std::string_view name, std::string_view content) {
    auto file = output.CreateFile(name, content.size());
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->WriteAt(0, Bytes(content)).ok());
  }
  static absl::Span<const std::byte> Bytes(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
  }
  static absl::StatusOr<std::string> Range(const ReadableFile& file, uint64_t offset,
                                           size_t count) {
    std::string text(count, '?');
    RETURN_IF_ERROR(
        file.ReadAt(offset, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), count)));
    return text;
  }

 private:
  std::unique_ptr<Backend> backend_ = GetParam()();
};

TEST_P(StorageConformance, ReadsRanges) {
  Put("a.bin", "0123456789");
  const auto file = storage().Open(Path("a.bin"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 10u);
  EXPECT_EQ(Range(**file, 0, 10).value(), "0123456789");
  EXPECT_EQ(Range(**file, 3, 4).value(), "3456");
  EXPECT_EQ(Range(**file, 10, 0).value(), "");
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
}

TEST_P(StorageConformance, RefusesToReadPastTheEnd) {
  Put("a.bin", "0123456789");
  const auto file = storage().Open(Path("a.bin"));
  ASSERT_TRUE(file.ok());
  for (const auto& [offset, count] : {std::pair<uint64_t, size_t>(5, 6), {10, 1}, {1 << 20, 4}}) {
    const absl::Status status = Range(**file, offset, count).status();
    EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged) << offset;
    EXPECT_THAT(std::string(status.message()), HasSubstr("a.bin"));
  }
}

TEST_P(StorageConformance, ReadsAnEmptyFile) {
  Put("empty", "");
  const auto file = storage().Open(Path("empty"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 0u);
  EXPECT_EQ(Read("empty").value(), "");
}

TEST_P(StorageConformance, IsReadByManyThreadsAtOnce) {
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

TEST_P(StorageConformance, ReportsWhatIsNotThere) {
  Put("d/a.bin", "x");
  for (const char* name : {"none", "d/none", "d/a.bin/none", "none/a.bin"}) {
    EXPECT_EQ(ReasonOf(storage().Open(Path(name)).status()), Reason::kSourceNotFound) << name;
    EXPECT_EQ(ReasonOf(storage().List(Path(name)).status()), Reason::kSourceNotFound) << name;
    EXPECT_EQ(ReasonOf(storage().IsDirectory(Path(name)).status()), Reason::kSourceNotFound);
  }
  EXPECT_THAT(std::string(storage().Open(Path("none")).status().message()), HasSubstr("none"));
}

TEST_P(StorageConformance, ADirectoryIsNoFileAndAFileNoDirectory) {
  Put("d/a.bin", "x");
  EXPECT_TRUE(storage().IsDirectory(Path("d")).value());
  EXPECT_TRUE(storage().IsDirectory(Path("d/")).value());
  EXPECT_FALSE(storage().IsDirectory(Path("d/a.bin")).value());
  EXPECT_EQ(ReasonOf(storage().Open(Path("d")).status()), Reason::kPathNotAllowed);
  EXPECT_EQ(ReasonOf(storage().List(Path("d/a.bin")).status()), Reason::kSourceNotFound);
}

TEST_P(StorageConformance, ListsRecursivelySortedWithoutHiddenFiles) {
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

TEST_P(StorageConformance, ReadsTextUpToALimit) {
  Put("t", "12345");
  EXPECT_EQ(ReadText(storage(), Path("t"), 5).value(), "12345");
  const absl::Status status = ReadText(storage(), Path("t"), 4).status();
  EXPECT_EQ(ReasonOf(status), Reason::kHeaderInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr("5 bytes"));
}

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

INSTANTIATE_TEST_SUITE_P(Backends, StorageConformance,
                         ::testing::Values(&Make<LocalBackend>, &Make<MemoryBackend>),
                         [](const auto& info) { return info.index == 0 ? "Local" : "Memory"; });

}  // namespace
}  // namespace linchpin
