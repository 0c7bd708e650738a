#include "client/artifact_upload.h"

#include <gtest/gtest.h>

#include "client/errors.h"
#include "client/sha256.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;
using Parts = std::vector<v1::CompressArtifactRequest>;

std::string Digest(const std::string& text) {
  Sha256 digest;
  digest.Update(text);
  return digest.Hex();
}

TEST(ListUpload, TakesFilesByNameAndLeavesHiddenOnesOut) {
  const TemporaryDirectory scratch;
  scratch.Write("model.safetensors", "12345");
  scratch.Write("config.json", "{}");
  scratch.Write("sub/tokenizer.json", "abc");
  scratch.Write(".git/HEAD", "x");
  scratch.Write(".hidden", "x");
  fs::create_symlink("config.json", scratch / "link.json");
  std::vector<UploadFile> files;
  ASSERT_TRUE(ListUpload(scratch.path(), files).ok());
  std::vector<std::pair<std::string, uint64_t>> seen;
  for (const UploadFile& file : files) seen.emplace_back(file.name, file.size);
  EXPECT_EQ(seen, (std::vector<std::pair<std::string, uint64_t>>{{"config.json", 2},
                                                                 {"link.json", 2},
                                                                 {"model.safetensors", 5},
                                                                 {"sub/tokenizer.json", 3}}));
}

TEST(ListUpload, NamesADirectoryThatIsNotThere) {
  std::vector<UploadFile> files;
  EXPECT_EQ(ReasonOf(ListUpload("/nowhere/at/all", files)), "SOURCE_NOT_FOUND");
}

TEST(SendFiles, FramesEveryFileAndFinishes) {
  const TemporaryDirectory scratch;
  std::string large((2 << 20) + 3, 'x');
  large[1 << 20] = 'y';
  scratch.Write("a", large);
  scratch.Write("b", "");
  Parts parts;
  ASSERT_TRUE(SendFiles(scratch.path(), {{"a", large.size()}, {"b", 0}}, [&](const auto& part) {
                parts.push_back(part);
                return true;
              }).ok());
  ASSERT_EQ(parts.size(), 8U);  // a: header, 3 chunks, end; b: header, end; finish
  EXPECT_EQ(parts[0].file().name(), "a");
  EXPECT_EQ(parts[0].file().size(), large.size());
  EXPECT_EQ(parts[1].chunk().offset(), 0U);
  EXPECT_EQ(parts[1].chunk().data().size(), 1U << 20);
  EXPECT_EQ(parts[3].chunk().offset(), 2U << 20);
  EXPECT_EQ(parts[1].chunk().data() + parts[2].chunk().data() + parts[3].chunk().data(), large);
  EXPECT_EQ(parts[4].end().sha256(), Digest(large));
  EXPECT_EQ(parts[5].file().name(), "b");
  EXPECT_EQ(parts[6].end().sha256(), Digest(""));
  EXPECT_TRUE(parts[7].has_finish());
}

TEST(SendFiles, StopsWhereTheServerDoes) {
  const TemporaryDirectory scratch;
  scratch.Write("a", "123");
  int sent = 0;
  EXPECT_TRUE(SendFiles(scratch.path(), {{"a", 3}, {"a", 3}}, [&](const auto&) {
                return ++sent < 2;
              }).ok());
  EXPECT_EQ(sent, 2);
}

TEST(SendFiles, NeverFinishesAfterAFileThatShrank) {
  const TemporaryDirectory scratch;
  scratch.Write("a", "123");
  bool finished = false;
  const grpc::Status status = SendFiles(scratch.path(), {{"a", 4}}, [&](const auto& part) {
    finished = finished || part.has_finish();
    return true;
  });
  EXPECT_EQ(ReasonOf(status), "SOURCE_CHANGED");
  EXPECT_FALSE(finished);
}

}  // namespace
}  // namespace linchpin
