#include "client/local_files.h"

#include <gtest/gtest.h>

#include "client/errors.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/client/directory_content.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

TEST(ReadLocalFile, ReadsAllBytes) {
  const TemporaryDirectory scratch;
  const std::string text("a\0b\r\n\xff", 6);
  scratch.Write("f", text);
  std::string read;
  ASSERT_TRUE(ReadLocalFile(scratch / "f", 6, read).ok());
  EXPECT_EQ(read, text);
}

TEST(ReadLocalFile, RefusesByNameWhatIsMissingOrTooLarge) {
  const TemporaryDirectory scratch;
  scratch.Write("f", "1234567");
  std::string read;
  EXPECT_EQ(ReasonOf(ReadLocalFile(scratch / "f", 6, read)), "OPTION_INVALID");
  const grpc::Status missing = ReadLocalFile(scratch / "g", 6, read);
  EXPECT_EQ(ReasonOf(missing), "SOURCE_NOT_FOUND");
  EXPECT_NE(missing.error_message().find(scratch / "g"), std::string::npos);
  EXPECT_FALSE(ReadLocalFile(scratch.path(), 6, read).ok());
}

TEST(WriteLocalFile, ReplacesAndLeavesNothingElse) {
  const TemporaryDirectory scratch;
  ASSERT_TRUE(WriteLocalFile(scratch / "f", "old").ok());
  ASSERT_TRUE(WriteLocalFile(scratch / "f", "new").ok());
  EXPECT_EQ(ReadAll(scratch / "f"), "new");
  EXPECT_EQ(EntryCount(scratch.path()), 1U);
}

TEST(WriteLocalFile, FailsCleanly) {
  const TemporaryDirectory scratch;
  EXPECT_EQ(ReasonOf(WriteLocalFile(scratch / "no/f", "x")), "SOURCE_NOT_FOUND");
  fs::create_directory(scratch / "d");
  EXPECT_FALSE(WriteLocalFile(scratch / "d", "x").ok());
  EXPECT_EQ(EntryCount(scratch.path()), 1U);
}

TEST(AbsolutePath, MakesRelativePathsAbsolute) {
  EXPECT_EQ(AbsolutePath("/a/b/"), "/a/b");
  EXPECT_EQ(AbsolutePath("/a/../b"), "/a/../b");
  EXPECT_EQ(AbsolutePath("/"), "/");
  EXPECT_EQ(AbsolutePath("s3://bucket/key/"), "s3://bucket/key/");
  EXPECT_EQ(AbsolutePath("x/./y/"), (fs::current_path() / "x/y").string());
  EXPECT_EQ(AbsolutePath("../x"), (fs::current_path().parent_path() / "x").string());
}

TEST(ResolvedPath, FollowsLinksToTheDirectoryButKeepsAFilesName) {
  const TemporaryDirectory scratch;
  const fs::path root = fs::canonical(scratch.path());
  scratch.Write("real/blob", "x");
  fs::create_directory_symlink(root / "real", root / "link");
  fs::create_symlink("blob", root / "real/model.safetensors");
  EXPECT_EQ(ResolvedPath((root / "link").string()), (root / "real").string());
  EXPECT_EQ(ResolvedPath((root / "link/model.safetensors").string()),
            (root / "real/model.safetensors").string());
  EXPECT_EQ(ResolvedPath((root / "link/new/").string()), (root / "real/new").string());
  EXPECT_EQ(ResolvedPath("hf://a/b"), "hf://a/b");
}

}  // namespace
}  // namespace linchpin
