#include "client/artifact_download.h"

#include <gtest/gtest.h>

#include "client/errors.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/client/directory_content.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

v1::FileHeader Header(const std::string& name, uint64_t size) {
  v1::FileHeader header;
  header.set_name(name);
  header.set_size(size);
  return header;
}

v1::FileChunk Chunk(uint64_t offset, const std::string& data) {
  v1::FileChunk chunk;
  chunk.set_offset(offset);
  chunk.set_data(data);
  return chunk;
}

v1::FileEnd End(const std::string& data) {
  Sha256 digest;
  digest.Update(data);
  v1::FileEnd end;
  end.set_sha256(digest.Hex());
  return end;
}

class ArtifactDownloadTest : public testing::Test {
 protected:
  void Begin(bool overwrite = false) {
    ASSERT_TRUE(ArtifactDownload::Begin(scratch_ / "out", overwrite, download_).ok());
  }
  void Give(const std::string& name, const std::string& data) {
    ASSERT_TRUE(download_->Take(Header(name, data.size())).ok());
    ASSERT_TRUE(download_->Take(Chunk(0, data)).ok());
    ASSERT_TRUE(download_->Take(End(data)).ok());
  }

  TemporaryDirectory scratch_;
  std::unique_ptr<ArtifactDownload> download_;
};

TEST_F(ArtifactDownloadTest, AppearsWholeAtCommit) {
  Begin();
  Give("config.json", "{}");
  ASSERT_TRUE(download_->Take(Header("sub/model", 5)).ok());
  ASSERT_TRUE(download_->Take(Chunk(0, "123")).ok());
  ASSERT_TRUE(download_->Take(Chunk(3, "45")).ok());
  ASSERT_TRUE(download_->Take(End("12345")).ok());
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
  ASSERT_TRUE(download_->Commit().ok());
  download_.reset();
  EXPECT_EQ(ReadAll(scratch_ / "out/config.json"), "{}");
  EXPECT_EQ(ReadAll(scratch_ / "out/sub/model"), "12345");
  EXPECT_EQ(EntryCount(scratch_.path()), 1U);
}

TEST_F(ArtifactDownloadTest, LeavesNothingUnlessCommitted) {
  Begin();
  Give("a", "1");
  ASSERT_TRUE(download_->Take(Header("b", 5)).ok());
  EXPECT_EQ(ReasonOf(download_->Commit()), "STREAM_INVALID");
  download_.reset();
  EXPECT_EQ(EntryCount(scratch_.path()), 0U);
}

TEST_F(ArtifactDownloadTest, RefusesWhatExists) {
  scratch_.Write("out/old", "x");
  EXPECT_EQ(ReasonOf(ArtifactDownload::Begin(scratch_ / "out", false, download_)), "OUTPUT_EXISTS");
  fs::create_symlink("nowhere", scratch_ / "dangling");
  EXPECT_EQ(ReasonOf(ArtifactDownload::Begin(scratch_ / "dangling", false, download_)),
            "OUTPUT_EXISTS");
}

TEST_F(ArtifactDownloadTest, DoesNotReplaceWhatCameMeanwhile) {
  Begin();
  Give("a", "1");
  scratch_.Write("out/theirs", "x");
  EXPECT_EQ(ReasonOf(download_->Commit()), "OUTPUT_EXISTS");
  download_.reset();
  EXPECT_EQ(ReadAll(scratch_ / "out/theirs"), "x");
  EXPECT_EQ(EntryCount(scratch_.path()), 1U);
}

TEST_F(ArtifactDownloadTest, ReplacesTheWholeDirectoryWhereAsked) {
  scratch_.Write("out/old", "x");
  Begin(true);
  Give("new", "1");
  ASSERT_TRUE(download_->Commit().ok());
  download_.reset();
  EXPECT_FALSE(fs::exists(scratch_ / "out/old"));
  EXPECT_EQ(ReadAll(scratch_ / "out/new"), "1");
  EXPECT_EQ(EntryCount(scratch_.path()), 1U);
}

TEST_F(ArtifactDownloadTest, TrustsNoName) {
  Begin();
  for (const std::string& name :
       {std::string(""), std::string("../x"), std::string("/etc/x"), std::string("a/../../x"),
        std::string("."), std::string("a//b"), std::string("a/"), std::string("a\0b", 3)}) {
    EXPECT_EQ(ReasonOf(download_->Take(Header(name, 1))), "STREAM_INVALID") << name;
  }
  EXPECT_FALSE(fs::exists(scratch_ / "x"));
}

TEST_F(ArtifactDownloadTest, ChecksOrderOffsetsAndSizes) {
  Begin();
  EXPECT_EQ(ReasonOf(download_->Take(Chunk(0, "x"))), "STREAM_INVALID");
  EXPECT_EQ(ReasonOf(download_->Take(End(""))), "STREAM_INVALID");
  ASSERT_TRUE(download_->Take(Header("a", 4)).ok());
  EXPECT_EQ(ReasonOf(download_->Take(Header("b", 4))), "STREAM_INVALID");
  EXPECT_EQ(ReasonOf(download_->Take(Chunk(1, "x"))), "STREAM_INVALID");
  ASSERT_TRUE(download_->Take(Chunk(0, "123")).ok());
  EXPECT_EQ(ReasonOf(download_->Take(Chunk(3, "45"))), "STREAM_INVALID");
  EXPECT_EQ(ReasonOf(download_->Take(End("123"))), "STREAM_INVALID");
}

TEST_F(ArtifactDownloadTest, ChecksDigestsAndNamesTheFile) {
  Begin();
  ASSERT_TRUE(download_->Take(Header("a", 3)).ok());
  ASSERT_TRUE(download_->Take(Chunk(0, "123")).ok());
  const grpc::Status status = download_->Take(End("124"));
  EXPECT_EQ(ReasonOf(status), "DIGEST_MISMATCH");
  EXPECT_EQ(status.error_message().rfind("a: ", 0), 0U);
}

TEST_F(ArtifactDownloadTest, TakesEachNameOnce) {
  Begin();
  Give("a", "1");
  EXPECT_FALSE(download_->Take(Header("a", 1)).ok());
}

TEST(ArtifactDownload, NamesAPlaceThatCannotBeWritten) {
  std::unique_ptr<ArtifactDownload> download;
  EXPECT_EQ(ReasonOf(ArtifactDownload::Begin("/nowhere/at/all", false, download)),
            "SOURCE_NOT_FOUND");
}

}  // namespace
}  // namespace linchpin
