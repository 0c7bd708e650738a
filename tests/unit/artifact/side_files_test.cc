#include "artifact/side_files.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

TEST(SideFilesTest, FilesAreWrittenCopiedAndKeptOpen) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  storage.Put("in/sub/large.txt", ToBytes(std::string(3'000'000, 'x')));
  const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
  ASSERT_TRUE(in.ok());
  const auto output = storage.CreateDirectory("out", false);
  ASSERT_TRUE(output.ok());
  SideFiles side(**output);
  ASSERT_TRUE(side.Write("a.json", "{}").ok());
  ASSERT_TRUE(side.Copy(*in, "sub/large.txt", {}).ok());
  ASSERT_EQ(side.files().size(), 2U);
  std::byte last{};
  ASSERT_TRUE(side.files()[1].file->ReadAt(2'999'999, {&last, 1}).ok());
  EXPECT_EQ(last, std::byte{'x'});
  ASSERT_TRUE((*output)->Commit().ok());
  EXPECT_EQ(*storage.Get("out/sub/large.txt"), *storage.Get("in/sub/large.txt"));
  EXPECT_EQ(ToText(storage.Get("out/a.json")), "{}");
}

TEST(SideFilesTest, CopyingStopsWhenAsked) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
  const auto output = storage.CreateDirectory("out", false);
  SideFiles side(**output);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(ReasonOf(side.Copy(*in, "LICENSE", {.stop = stop.get_token()})), Reason::kCancelled);
}

TEST(WriteSideFilesTest, TheManifestOfAnEarlierRunIsNotCarriedOver) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  storage.Put("in/linchpin.json", ToBytes("{}"));
  ASSERT_TRUE(WriteArtifact(storage, "in", "out", {}, {}).ok());
  EXPECT_THAT(ToText(storage.Get("out/linchpin.json")), HasSubstr("manifest_version"));
}

}  // namespace
}  // namespace linchpin
