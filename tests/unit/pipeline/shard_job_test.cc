#include "pipeline/shard_job.h"

#include <map>

#include "artifact/manifest.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

// All files of a directory.
std::map<std::string, std::string> Content(const MemoryStorage& storage, const std::string& path) {
  std::map<std::string, std::string> content;
  for (const FileEntry& file : storage.List(path).value_or(std::vector<FileEntry>())) {
    content[file.name] = ToText(storage.Get(path + "/" + file.name));
  }
  return content;
}

const QuantizeOptions kOptions{.scale = ScaleRule::kMse};

class ShardJobTest : public testing::Test {
 protected:
  void SetUp() override {
    PutTinyCheckpoint(storage_, "/model", {.shards = 3});
    const auto detection = Detect(storage_, "/model", {}, {});
    ASSERT_TRUE(detection.ok()) << detection.status();
    job_ = {.source = "/model",
            .destination = "/parts",
            .key = std::string(64, 'a'),
            .quantize = kOptions,
            .detection_json = DetectionToJson(*detection).dump()};
  }
  void CompressAll() {
    for (const int index : {2, 0, 1}) {
      const auto shard = CompressShard(storage_, job_, index, {});
      ASSERT_TRUE(shard.ok()) << shard.status();
      EXPECT_FALSE(shard->skipped);
    }
  }

  MemoryStorage storage_;
  ShardJob job_;
};

TEST_F(ShardJobTest, MakesTheBytesOfASingleProcess) {
  CompressAll();
  const auto parts = FinalizeCompression(storage_, job_, false, {});
  ASSERT_TRUE(parts.ok()) << parts.status();
  const auto whole = Compress(storage_, "/model", storage_, "/whole", {.quantize = kOptions}, {});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(Content(storage_, "/parts"), Content(storage_, "/whole"));
  EXPECT_EQ(parts->manifest, whole->manifest);
  EXPECT_EQ(parts->kept, whole->kept);
  EXPECT_EQ(parts->bytes_out, whole->bytes_out);
}

TEST_F(ShardJobTest, AFinishedShardIsLeftAsItIs) {
  const auto first = CompressShard(storage_, job_, 1, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto before = Content(storage_, ShardDirectory(job_, 1));
  const auto again = CompressShard(storage_, job_, 1, {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->skipped);
  EXPECT_EQ(again->sha256, first->sha256);
  EXPECT_EQ(again->bytes_in, first->bytes_in);
  EXPECT_EQ(Content(storage_, ShardDirectory(job_, 1)), before);
}

TEST_F(ShardJobTest, ShardsThatAreMissingAreNamedAndNothingIsWritten) {
  ASSERT_TRUE(CompressShard(storage_, job_, 1, {}).ok());
  const absl::Status status = FinalizeCompression(storage_, job_, false, {}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceNotFound);
  EXPECT_EQ(DetailsOf(status).at("missing"), "0,2");
  EXPECT_TRUE(Content(storage_, "/parts").empty());
}

TEST_F(ShardJobTest, AShardOfAnotherJobOrCutShortIsDoneAgain) {
  ASSERT_TRUE(CompressShard(storage_, job_, 0, {}).ok());
  const std::string directory = ShardDirectory(job_, 0);
  const auto good = Content(storage_, directory);
  storage_.Put(directory + "/model-00001-of-00003.safetensors", ToBytes("short"));
  const auto again = CompressShard(storage_, job_, 0, {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->skipped);
  EXPECT_EQ(Content(storage_, directory), good);
  storage_.Put(directory + "/linchpin.json", ToBytes("{}"));
  EXPECT_FALSE(CompressShard(storage_, job_, 0, {})->skipped);
}

TEST_F(ShardJobTest, ChangedBytesOfAShardAreFound) {
  CompressAll();
  const std::string file = ShardDirectory(job_, 2) + "/model-00003-of-00003.safetensors";
  std::string bytes = ToText(storage_.Get(file));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  storage_.Put(file, ToBytes(bytes));
  EXPECT_EQ(ReasonOf(FinalizeCompression(storage_, job_, false, {}).status()),
            Reason::kDigestMismatch);
  EXPECT_TRUE(Content(storage_, "/parts").empty());
}

TEST_F(ShardJobTest, AChangedSourceIsFound) {
  CompressAll();
  const std::string file = "/model/model-00002-of-00003.safetensors";
  std::string bytes = ToText(storage_.Get(file));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  storage_.Put(file, ToBytes(bytes));
  EXPECT_EQ(ReasonOf(FinalizeCompression(storage_, job_, false, {}).status()),
            Reason::kSourceChanged);
}

TEST_F(ShardJobTest, AModelInOneFileIsAJobOfOneShard) {
  PutTinyCheckpoint(storage_, "/single");
  job_.source = "/single";
  ASSERT_TRUE(CompressShard(storage_, job_, 0, {}).ok());
  ASSERT_TRUE(FinalizeCompression(storage_, job_, false, {}).ok());
  ASSERT_TRUE(Compress(storage_, "/single", storage_, "/whole", {.quantize = kOptions}, {}).ok());
  EXPECT_EQ(Content(storage_, "/parts"), Content(storage_, "/whole"));
}

TEST_F(ShardJobTest, RefusesWhatNeedsTheWholeModel) {
  job_.quantize.scale = ScaleRule::kImportance;
  EXPECT_EQ(ReasonOf(CompressShard(storage_, job_, 0, {}).status()), Reason::kFeatureUnsupported);
}

TEST_F(ShardJobTest, RefusesWhatIsNoJob) {
  for (const int index : {-1, 3}) {
    EXPECT_EQ(ReasonOf(CompressShard(storage_, job_, index, {}).status()), Reason::kOptionInvalid);
  }
  for (const char* detection :
       {"", "[]", "{}", R"({"super_weights": {}})", R"({"super_weights": [{}]})",
        R"({"super_weights": [{"tensor": 1, "row": 1, "column": 1, "value": 1}]})",
        R"({"super_weights": [{"tensor": "a", "row": -1, "column": 1, "value": 1}]})"}) {
    job_.detection_json = detection;
    EXPECT_EQ(ReasonOf(CompressShard(storage_, job_, 0, {}).status()), Reason::kOptionInvalid)
        << detection;
  }
  job_.detection_json =
      R"({"super_weights": [{"tensor": "absent", "row": 1, "column": 1, "value": 1}]})";
  EXPECT_EQ(ReasonOf(CompressShard(storage_, job_, 0, {}).status()), Reason::kTensorMissing);
}

}  // namespace
}  // namespace linchpin
