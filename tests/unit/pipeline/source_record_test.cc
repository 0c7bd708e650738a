#include "pipeline/source_record.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gtest/gtest.h"
#include "pipeline/memory_estimate.h"
#include "pipeline/shard_parts.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/watched_storage.h"

namespace linchpin {
namespace {

const std::string kSecond = "model-00002-of-00003.safetensors";

class SourceRecordTest : public testing::Test {
 protected:
  void SetUp() override {
    PutTinyCheckpoint(storage_, "/model", {.shards = 3});
    RecordingStorage recording(storage_);
    const auto survey = SurveySource(recording, "/model", 1);
    ASSERT_TRUE(survey.ok()) << survey.status();
    fingerprint_ = survey->fingerprint;
    ASSERT_TRUE(WriteSourceRecord(storage_, job_, recording.Take()).ok());
    ASSERT_NE(storage_.Get(file_), nullptr);
  }
  MemoryStorage storage_;
  ShardJob job_{.source = "/model",
                .destination = "/parts",
                .key = std::string(64, 'a'),
                .quantize = {.scale = ScaleRule::kMse},
                .detect = false};
  const std::string file_ = SourceRecordDirectory(job_) + "/source";
  std::string fingerprint_;
};

TEST_F(SourceRecordTest, TellsWhatASourceIsWithoutItsFiles) {
  StopAt never(-1);
  const WatchedStorage watched(storage_, never);
  const auto replayed = ReplaySource(watched, job_);
  ASSERT_NE(replayed, nullptr);
  const int before = never.begun();
  const auto survey = SurveySource(*replayed, "/model", 1);
  ASSERT_TRUE(survey.ok()) << survey.status();
  EXPECT_EQ(survey->fingerprint, fingerprint_);
  EXPECT_EQ(survey->shards.size(), 3U);
  EXPECT_EQ(never.begun(), before) << "nothing is asked of the store";
}

TEST_F(SourceRecordTest, AWorkerOpensItsOwnShardAndMakesTheSameOfIt) {
  ASSERT_TRUE(CompressShard(storage_, job_, 1, {}).ok());
  const std::string place = ShardDirectory(job_, 1) + "/" + kSecond;
  const std::string expected = ToText(storage_.Get(place));
  ASSERT_TRUE(storage_.RemoveDirectory(ShardDirectory(job_, 1)).ok());
  storage_.Remove("/model/model-00001-of-00003.safetensors");  // never asked for
  const auto replayed = ReplaySource(storage_, job_);
  const auto survey = SurveySource(*replayed, "/model", 1);
  ASSERT_TRUE(survey.ok()) << survey.status();
  job_.opened = survey->checkpoint;
  const auto shard = CompressShard(storage_, job_, 1, {});
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_EQ(ToText(storage_.Get(place)), expected);
}

TEST_F(SourceRecordTest, AFileThatChangedIsNoticed) {
  const auto replayed = ReplaySource(storage_, job_);
  EXPECT_TRUE(replayed->CheckFile(kSecond).ok());
  const std::string path = "/model/" + kSecond;
  const std::string good = ToText(storage_.Get(path));
  std::string bad = good;
  bad[10] = ' ';  // in its header
  for (const std::string& other : {bad, good + " "}) {
    storage_.Put(path, ToBytes(other));
    EXPECT_EQ(ReasonOf(replayed->CheckFile(kSecond)), Reason::kSourceChanged);
  }
  const auto file = replayed->Open(path);
  std::byte byte{};
  EXPECT_EQ(ReasonOf((*file)->ReadAt(good.size() - 1, {&byte, 1})), Reason::kSourceChanged)
      << "it is longer than it was";
}

TEST_F(SourceRecordTest, IsLeftAsItIsWhereItIsTheSame) {
  const MemoryStorage::Bytes before = storage_.Get(file_);
  SetUp();
  EXPECT_EQ(storage_.Get(file_), before);
}

TEST_F(SourceRecordTest, WhatIsNoRecordIsNone) {
  const std::string good = ToText(storage_.Get(file_));
  std::vector<std::string> bad = {"", "12345678", std::string(8, '\xff'), good.substr(8)};
  for (size_t cut = 0; cut < good.size(); cut += 97) bad.push_back(good.substr(0, cut));
  const std::string deep(100'000, '[');
  std::string prefix(8, '\0');
  for (int i = 0; i < 8; ++i) prefix[i] = static_cast<char>(deep.size() >> (8 * i) & 0xff);
  bad.push_back(prefix + deep);
  for (const std::string& text : bad) {
    storage_.Put(file_, ToBytes(text));
    EXPECT_EQ(ReplaySource(storage_, job_), nullptr) << text.size();
  }
  storage_.Remove(file_);
  EXPECT_EQ(ReplaySource(storage_, job_), nullptr);
}

TEST_F(SourceRecordTest, GoesWithTheJobsParts) {
  RemoveParts(storage_, job_, 3);
  EXPECT_EQ(storage_.Get(file_), nullptr);
}

TEST_F(SourceRecordTest, IsOnlyRead) {
  const auto replayed = ReplaySource(storage_, job_);
  EXPECT_EQ(ReasonOf(replayed->CreateDirectory("/x", true).status()), Reason::kFeatureUnsupported);
  EXPECT_EQ(ReasonOf(RecordingStorage(storage_).CreateDirectory("/x", true).status()),
            Reason::kFeatureUnsupported);
}

}  // namespace
}  // namespace linchpin
