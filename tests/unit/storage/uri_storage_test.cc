#include "storage/uri_storage.h"

#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

// A local store, and a store in memory under "s3".
class UriStorageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_.Write("a.txt", "local");
    for (const char* path : {"s3://bucket/read/a.txt", "s3://bucket/secret/a.txt"}) {
      memory_->Put(path, std::make_shared<ZeroedBytes>(3));
    }
  }
  absl::StatusOr<std::unique_ptr<UriStorage>> Create(const UriPrefixes& prefixes) {
    return UriStorage::Create({{"file", local_}, {"s3", memory_}}, prefixes);
  }

  TemporaryDirectory directory_;
  std::shared_ptr<MemoryStorage> memory_ = std::make_shared<MemoryStorage>();
  std::shared_ptr<const Storage> local_ =
      *LocalStorage::Create({.write_roots = {directory_.path().string()}});
};

TEST_F(UriStorageTest, SendsEveryPathToItsStore) {
  const auto storage = *Create({.read = {"s3://bucket/read"}, .write = {"s3://bucket/out"}});
  EXPECT_EQ(ReadText(*storage, directory_ / "a.txt", 10).value(), "local");
  EXPECT_EQ(ReadText(*storage, "file://" + (directory_ / "a.txt"), 10).value(), "local");
  EXPECT_EQ(storage->Open("s3://bucket/read/a.txt").value()->size(), 3U);
  EXPECT_EQ(storage->Open("S3://bucket/read/a.txt").value()->size(), 3U);
  EXPECT_EQ(storage->List("s3://bucket/read/")->size(), 1U);
  EXPECT_TRUE(storage->IsDirectory("s3://bucket/read").value());
  const auto output = storage->CreateDirectory("s3://bucket/out/x", false);
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_TRUE((*output)->CreateFile("f", 1).ok());
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_TRUE(storage->Open("s3://bucket/out/x/f").ok()) << "what may be written may be read";
  EXPECT_THAT(storage->schemes(), ElementsAre("file", "s3"));
}

TEST_F(UriStorageTest, RefusesWhatNoPrefixCoversAndSaysNothingOfIt) {
  const auto storage = *Create({.read = {"s3://bucket/read"}, .write = {"s3://bucket/out"}});
  std::string said;
  for (const std::string name : {"there", "none"}) {
    const std::string path = "s3://bucket/secret" + std::string(name == "none" ? "/b" : "/a.txt");
    const absl::Status status = storage->Open(path).status();
    EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed);
    const std::string rest = std::string(status.message()).substr(path.size());
    EXPECT_TRUE(said.empty() || said == rest) << rest;
    said = rest;
  }
  for (const char* path : {"s3://bucket", "s3://bucket/reader/a", "s3://other/read/a",
                           "s3://bucket/read/../secret/a.txt", "gs://bucket/read/a.txt",
                           "http://bucket/read", "file:///etc/passwd", "/etc/passwd", "relative"}) {
    EXPECT_EQ(ReasonOf(storage->Open(path).status()), Reason::kPathNotAllowed) << path;
    EXPECT_EQ(ReasonOf(storage->List(path).status()), Reason::kPathNotAllowed) << path;
    EXPECT_EQ(ReasonOf(storage->IsDirectory(path).status()), Reason::kPathNotAllowed) << path;
    EXPECT_EQ(ReasonOf(storage->CreateDirectory(path, true).status()), Reason::kPathNotAllowed);
  }
  EXPECT_EQ(ReasonOf(storage->CreateDirectory("s3://bucket/read/x", false).status()),
            Reason::kPathNotAllowed)
      << "it may only be read";
}

TEST_F(UriStorageTest, WithoutPrefixesThereIsOnlyWhatIsLocal) {
  const auto storage = *Create({});
  EXPECT_EQ(ReasonOf(storage->Open("s3://bucket/read/a.txt").status()), Reason::kPathNotAllowed);
  EXPECT_THAT(storage->schemes(), ElementsAre("file"));
}

TEST_F(UriStorageTest, RefusesPrefixesOfNoStore) {
  for (const char* prefix : {"", "bucket", "/models", "file:///models", "gs://bucket", "s3://",
                             "s3://a/../b", "http://host"}) {
    EXPECT_EQ(ReasonOf(Create({.read = {prefix}}).status()), Reason::kOptionInvalid) << prefix;
    EXPECT_EQ(ReasonOf(Create({.write = {prefix}}).status()), Reason::kOptionInvalid) << prefix;
  }
}

TEST_F(UriStorageTest, OneSpellingTellsWhetherPathsMeet) {
  const auto storage = *Create({.read = {"s3://bucket"}});
  EXPECT_EQ(storage->Canonical("S3://bucket/a/"), "s3://bucket/a");
  EXPECT_EQ(storage->Canonical("file://" + (directory_ / "a.txt")),
            storage->Canonical(directory_ / "./a.txt"));
}

TEST_F(UriStorageTest, AViewForAJobAllowsNoMore) {
  const auto storage = *Create({.read = {"s3://bucket/read"}});
  const auto view = storage->UntilStopped({});
  ASSERT_NE(view, nullptr);
  EXPECT_TRUE(view->Open("s3://bucket/read/a.txt").ok());
  EXPECT_EQ(ReasonOf(view->Open("s3://bucket/secret/a.txt").status()), Reason::kPathNotAllowed);
}

}  // namespace
}  // namespace linchpin
