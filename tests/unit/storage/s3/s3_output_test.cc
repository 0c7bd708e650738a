// Outputs with files of several parts, and writers that die, on real S3 servers.
#include "storage/s3/s3_output.h"

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/s3_server.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kPart = uint64_t{5} << 20;

absl::Span<const std::byte> Bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string Content(size_t size, char first = 'a') {
  std::string content(size, '\0');
  for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(first + (i / 997) % 20);
  return content;
}

class S3OutputTest : public ::testing::TestWithParam<S3Server& (*)()> {
 protected:
  static std::string NewPlace() {
    static std::atomic<int> number = 0;
    return "s3://models/output/" + std::to_string(++number) + "/out";
  }
  std::unique_ptr<OutputDirectory> Create(bool overwrite = false) const {
    auto output = storage_.CreateDirectory(place_, overwrite);
    EXPECT_TRUE(output.ok()) << output.status();
    return output.ok() ? *std::move(output) : nullptr;
  }
  static void Write(OutputDirectory& output, std::string_view name, std::string_view content) {
    const auto file = output.CreateFile(name, content.size());
    ASSERT_TRUE(file.ok()) << file.status();
    const absl::Status status = (*file)->WriteAt(0, Bytes(content));
    ASSERT_TRUE(status.ok()) << status;
  }
  // Every key below the destination, hidden or not.
  std::vector<std::string> Keys() const {
    const auto listing = ListDirectory(client_, *ParseUri(place_));
    EXPECT_TRUE(listing.ok()) << listing.status();
    std::vector<std::string> keys;
    if (listing.ok()) {
      for (const auto& object : listing->objects) keys.push_back(object.key);
    }
    return keys;
  }
  std::string Read(const std::string& name) const {
    return ReadText(storage_, place_ + "/" + name, 64 << 20).value_or("?");
  }
  void Put(const std::string& name, std::string_view content) const {
    ASSERT_TRUE(client_.Put(*ParseUri(place_ + "/" + name), Bytes(content), false).ok());
  }

  const S3Client client_ = GetParam()().Client();
  const S3Storage storage_{client_};
  const std::string place_ = NewPlace();
};

TEST_P(S3OutputTest, ALargeFileIsPutTogetherFromPartsInAnyOrder) {
  const std::string content = Content(2 * kPart + 12345);
  auto output = Create();
  auto file = *output->CreateFile("model.safetensors", content.size());
  // Three threads, blocks that straddle the parts, back to front.
  constexpr size_t kBlock = 700'001;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (size_t block = content.size() / kBlock + 1; block-- > 0;) {
        if (block % 3 != t) continue;
        const std::string_view bytes = std::string_view(content).substr(block * kBlock, kBlock);
        const absl::Status status = file->WriteAt(block * kBlock, Bytes(bytes));
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string back(content.size(), '?');
  const auto span = absl::MakeSpan(reinterpret_cast<std::byte*>(back.data()), back.size());
  ASSERT_TRUE(file->ReadAt(0, span).ok());
  EXPECT_TRUE(back == content) << "before the commit, from the store";
  EXPECT_EQ(ReasonOf(storage_.IsDirectory(place_).status()), Reason::kSourceNotFound);
  Write(*output, "linchpin.json", "{}");
  file.reset();
  const absl::Status status = output->Commit();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(Keys(), ElementsAre("linchpin.json", "model.safetensors"));
  EXPECT_TRUE(Read("model.safetensors") == content);
}

size_t ResidentPages() {
  size_t all = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident;
}

TEST_P(S3OutputTest, AFileOfWhichLittleStandsTakesLittleMemory) {
  constexpr size_t kFiles = 200;
  auto output = Create();
  std::vector<std::unique_ptr<WritableFile>> files;
  const size_t before = ResidentPages();
  for (size_t i = 0; i < kFiles; ++i) {
    files.push_back(*output->CreateFile(std::to_string(i), 100 * kPart));
    ASSERT_TRUE(files.back()->WriteAt(0, Bytes("a header")).ok());
  }
  const size_t pages = kPart / static_cast<size_t>(sysconf(_SC_PAGESIZE));  // of one part
  EXPECT_LT(ResidentPages(), before + kFiles * pages / 10) << "a tenth of a part for each";
}

TEST_P(S3OutputTest, WhatWasNeverWrittenIsZero) {
  auto output = Create();
  auto file = *output->CreateFile("sparse", 2 * kPart + 1);
  ASSERT_TRUE(file->WriteAt(kPart + 1, Bytes("x")).ok());
  std::byte back[3];
  ASSERT_TRUE(file->ReadAt(kPart, absl::MakeSpan(back)).ok()) << "from memory";
  EXPECT_EQ(back[1], std::byte{'x'});
  ASSERT_TRUE(output->Commit().ok());
  std::string expected(2 * kPart + 1, '\0');
  expected[kPart + 1] = 'x';
  EXPECT_TRUE(Read("sparse") == expected);
}

TEST_P(S3OutputTest, ReadingBackTooEarlyIsAnErrorAndNotZeros) {
  auto output = Create();
  auto file = *output->CreateFile("large", 2 * kPart);
  ASSERT_TRUE(file->WriteAt(0, Bytes(Content(kPart))).ok());
  std::byte back[1];
  EXPECT_EQ(ReasonOf(file->ReadAt(0, absl::MakeSpan(back))), Reason::kInternal);
  EXPECT_EQ(ReasonOf(file->WriteAt(5, Bytes("x"))), Reason::kInternal);
}

TEST_P(S3OutputTest, GivenUpItLeavesNothing) {
  {
    auto output = Create();
    Write(*output, "whole", Content(kPart + 1));
    auto half = *output->CreateFile("half", 2 * kPart);
    ASSERT_TRUE(half->WriteAt(0, Bytes(Content(kPart))).ok());
    EXPECT_EQ(Keys().size(), 1U) << "the whole one waits";
  }
  EXPECT_THAT(Keys(), IsEmpty());
}

TEST_P(S3OutputTest, OverwritesLargeFilesAtTheCommitAndRemovesTheRest) {
  Put("model.safetensors", "old");
  Put("other", "old");
  auto output = Create(true);
  const std::string content = Content(kPart + 77);
  Write(*output, "model.safetensors", content);
  Write(*output, "linchpin.json", "{}");
  EXPECT_EQ(Read("model.safetensors"), "old");
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_THAT(Keys(), ElementsAre("linchpin.json", "model.safetensors"));
  EXPECT_TRUE(Read("model.safetensors") == content);
}

TEST_P(S3OutputTest, OfTwoWritersOneWins) {
  auto first = Create();
  auto second = Create();
  Write(*first, "a", Content(kPart + 1, 'a'));
  Write(*second, "a", Content(kPart + 1, 'A'));
  ASSERT_TRUE(second->Commit().ok());
  EXPECT_EQ(ReasonOf(first->Commit()), Reason::kOutputExists);
  first.reset();
  EXPECT_THAT(Keys(), ElementsAre("a"));
  EXPECT_TRUE(Read("a") == Content(kPart + 1, 'A'));
}

TEST_P(S3OutputTest, OneOfManyCreatesAnObject) {
  if (GetParam() == &S3Server::S3rver) return;  // it does not know conditions
  const Uri place = *ParseUri(place_ + "/mark");
  std::atomic<int> created = 0, refused = 0;
  std::vector<std::thread> threads;
  for (char name = 'a'; name < 'i'; ++name) {
    threads.emplace_back([&, name] {
      const absl::Status status = client_.Put(place, Bytes(std::string(1, name)), /*create=*/true);
      created += status.ok() ? 1 : 0;
      refused += ReasonOf(status) == Reason::kOutputExists ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(created, 1);
  EXPECT_EQ(refused, 7);
}

TEST_P(S3OutputTest, AWriterAtItsCommitIsNotDisturbed) {
  Put(".linchpin-commit", "somebody");
  Put("a", "partial");
  EXPECT_EQ(ReasonOf(storage_.IsDirectory(place_).status()), Reason::kSourceNotFound);
  EXPECT_EQ(ReasonOf(storage_.List(place_).status()), Reason::kSourceNotFound);
  const std::string above = place_.substr(0, place_.rfind('/'));
  const auto listing = storage_.List(above);
  EXPECT_TRUE(!listing.ok() || listing->empty()) << "nor is it part of what lies above";
  const absl::Status status = storage_.CreateDirectory(place_, true).status();
  EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed) << "calling again helps";
  EXPECT_THAT(std::string(status.message()), HasSubstr("another writer"));
  EXPECT_THAT(Keys(), ElementsAre(".linchpin-commit", "a"));
}

TEST_P(S3OutputTest, WhatAWriterGaveUpAtItsCommitIsReplaced) {
  Put(".linchpin-commit", "abandoned");
  Put("a", "partial");
  Put("b", "partial");
  auto output = Create();
  Write(*output, "a", "whole");
  Write(*output, "linchpin.json", "{}");
  ASSERT_TRUE(output->Commit().ok());
  EXPECT_THAT(Keys(), ElementsAre("a", "linchpin.json"));
  EXPECT_EQ(Read("a"), "whole");
}

TEST_P(S3OutputTest, CopiesLargeObjectsInParts) {
  S3Options options = GetParam()().s3_options();
  options.copy_bytes = kPart;
  const S3Client client(HttpClient(GetParam()().http_options()), options,
                        std::make_shared<FixedCredentials>(GetParam()().credentials()));
  const std::string content = Content(2 * kPart + 3);
  Put("from", content);
  const absl::Status status =
      client.Copy(*ParseUri(place_ + "/from"), content.size(), *ParseUri(place_ + "/to"), false);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Read("to") == content);
}

TEST_P(S3OutputTest, ABucketIsNoOutput) {
  EXPECT_EQ(ReasonOf(storage_.CreateDirectory("s3://models", true).status()),
            Reason::kPathNotAllowed);
}

TEST_P(S3OutputTest, NoticesAnObjectThatChanges) {
  Put("a", "first");
  const auto file = storage_.Open(place_ + "/a");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
  Put("a", "other");
  EXPECT_EQ(ReasonOf((*file)->CheckUnchanged()), Reason::kSourceChanged);
  std::byte back[5];
  EXPECT_EQ(ReasonOf((*file)->ReadAt(0, absl::MakeSpan(back))), Reason::kSourceChanged);
}

INSTANTIATE_TEST_SUITE_P(S3rver, S3OutputTest, ::testing::Values(&S3Server::S3rver));
INSTANTIATE_TEST_SUITE_P(MotoOverTls, S3OutputTest, ::testing::Values(&S3Server::Moto));
INSTANTIATE_TEST_SUITE_P(Google, S3OutputTest, ::testing::Values(&S3Server::Google));

}  // namespace
}  // namespace linchpin
