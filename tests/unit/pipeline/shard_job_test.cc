#include "pipeline/shard_job.h"

#include <cstring>
#include <map>

#include "artifact/digest.h"
#include "artifact/manifest.h"
#include "base/status.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/shard_importance.h"
#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/watched_storage.h"

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

class ShardJobTest : public testing::Test {
 protected:
  void SetUp() override {
    PutTinyCheckpoint(storage_, "/model", {.shards = 3});
    Prepare({});
  }
  // Makes job_ the job of these options.
  void Prepare(const QuantizeOptions& quantize) {
    options_ = {.quantize = quantize};
    job_ = {.source = "/model",
            .destination = "/parts",
            .key = std::string(64, 'a'),
            .quantize = quantize};
    const auto prepared = PrepareCompression(storage_, job_, options_, {});
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    job_.detection_json = DetectionToJson(*prepared->detection).dump();
    job_.importance_sha256 = prepared->importance_sha256;
  }
  // The same without a detection.
  void PrepareWithout(const QuantizeOptions& quantize, bool source_digest) {
    options_ = {.detect = {.skip = true}, .quantize = quantize, .source_digest = source_digest};
    job_ = {.source = "/model",
            .destination = "/parts",
            .key = std::string(64, 'b'),
            .quantize = quantize,
            .detect = false,
            .source_digest = source_digest};
    const auto prepared = PrepareCompression(storage_, job_, options_, {});
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    EXPECT_FALSE(prepared->detection.has_value());
    EXPECT_EQ(prepared->importance_sha256, "");
  }
  void CompressAll() {
    for (const int index : {2, 0, 1}) {
      const auto shard = CompressShard(storage_, job_, index, {});
      ASSERT_TRUE(shard.ok()) << shard.status();
      EXPECT_FALSE(shard->skipped);
    }
  }
  // Of all that lies beside the destination.
  std::vector<std::string> Left() const {
    std::vector<std::string> left;
    for (const FileEntry& file : storage_.List("/").value_or(std::vector<FileEntry>())) {
      if (file.name.starts_with("parts.")) left.push_back(file.name);
    }
    return left;
  }
  // Flips the last bit of a file.
  void Damage(const std::string& file) {
    std::string bytes = ToText(storage_.Get(file));
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    storage_.Put(file, ToBytes(bytes));
  }

  MemoryStorage storage_;
  ShardJob job_;
  CompressOptions options_;
};

const QuantizeOptions kChoices[] = {
    {},
    {.scale = ScaleRule::kMse},
    {.scheme = Scheme::kW8A16, .scale = ScaleRule::kSigned, .preserve = Preserve::kScale},
    {.preserve = Preserve::kLora},
    {.format = Format::kDense},
    {.format = Format::kDense, .scheme = Scheme::kQ4_0},
    {.format = Format::kDense, .preserve = Preserve::kRestore}};

TEST_F(ShardJobTest, MakesTheBytesOfASingleProcess) {
  for (const QuantizeOptions& choice : kChoices) {
    const std::string which =
        std::string(NameOf(choice.format)) + " " + std::string(NameOf(choice.preserve));
    job_.destination = "/parts";
    Prepare(choice);
    CompressAll();
    const auto parts = FinalizeCompression(storage_, job_, true, {});
    ASSERT_TRUE(parts.ok()) << which << parts.status();
    options_.overwrite = true;
    const auto whole = Compress(storage_, "/model", storage_, "/whole", options_, {});
    ASSERT_TRUE(whole.ok()) << which << whole.status();
    EXPECT_EQ(Content(storage_, "/parts"), Content(storage_, "/whole")) << which;
    EXPECT_EQ(parts->manifest, whole->manifest) << which;
    EXPECT_EQ(parts->kept, whole->kept) << which;
    EXPECT_EQ(parts->notes, whole->notes) << which;
    EXPECT_EQ(parts->bytes_in, whole->bytes_in) << which;
    EXPECT_EQ(parts->bytes_out, whole->bytes_out) << which;
    EXPECT_THAT(Left(), testing::IsEmpty()) << which;
  }
}

TEST_F(ShardJobTest, MakesThemWithoutADetectionToo) {
  const QuantizeOptions choices[] = {{.scale = ScaleRule::kSigned},
                                     {.scheme = Scheme::kW8A16, .scale = ScaleRule::kMse},
                                     {.format = Format::kDense, .scale = ScaleRule::kMinMax}};
  for (const QuantizeOptions& choice : choices) {
    for (const bool source_digest : {true, false}) {
      PrepareWithout(choice, source_digest);
      CompressAll();
      const auto parts = FinalizeCompression(storage_, job_, true, {});
      ASSERT_TRUE(parts.ok()) << parts.status();
      options_.overwrite = true;
      const auto whole = Compress(storage_, "/model", storage_, "/whole", options_, {});
      ASSERT_TRUE(whole.ok()) << whole.status();
      EXPECT_EQ(Content(storage_, "/parts"), Content(storage_, "/whole"));
      EXPECT_EQ(parts->notes, whole->notes);
      EXPECT_THAT(parts->notes.front(), testing::HasSubstr("detection is off"));
      const auto again = FinalizeCompression(storage_, job_, false, {});
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_EQ(again->manifest, whole->manifest);
    }
  }
}

TEST_F(ShardJobTest, WithoutADetectionThereIsNothingThatNeedsOne) {
  options_ = {.detect = {.skip = true}};
  EXPECT_EQ(ReasonOf(PrepareCompression(storage_, job_, options_, {}).status()),
            Reason::kOptionInvalid)
      << "importance";
  const std::string found = job_.detection_json;
  PrepareWithout({.scale = ScaleRule::kSigned}, true);
  job_.detection_json = found;
  EXPECT_EQ(ReasonOf(CompressShard(storage_, job_, 0, {}).status()), Reason::kOptionInvalid);
}

// Bytes that no sample of the job's key sees.
TEST_F(ShardJobTest, ASourceThatChangedBetweenCallsIsNoticed) {
  const std::string shard = "/model/model-00002-of-00003.safetensors";
  const std::string before = ToText(storage_.Get(shard));
  CompressAll();
  const auto finished = Content(storage_, ShardDirectory(job_, 1));
  Damage(shard);
  const absl::Status status = FinalizeCompression(storage_, job_, false, {}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("model-00002-of-00003"));
  EXPECT_TRUE(Content(storage_, "/parts").empty());
  EXPECT_TRUE(CompressShard(storage_, job_, 0, {})->skipped);
  EXPECT_FALSE(CompressShard(storage_, job_, 1, {})->skipped) << "made anew of what is there";
  EXPECT_NE(Content(storage_, ShardDirectory(job_, 1)), finished);
  storage_.Put(shard, ToBytes(before));
  EXPECT_EQ(ReasonOf(FinalizeCompression(storage_, job_, false, {}).status()),
            Reason::kSourceChanged);
  EXPECT_FALSE(CompressShard(storage_, job_, 1, {})->skipped);
  EXPECT_TRUE(FinalizeCompression(storage_, job_, false, {}).ok());
}

// A store that tells versions apart need not be read again, unless there is another.
TEST_F(ShardJobTest, OnlyASourceOfAnotherVersionIsReadAgain) {
  const TemporaryDirectory directory;
  const auto local = *LocalStorage::Create({.write_roots = {directory.path().string()}});
  const auto files = storage_.List("/model");
  for (const FileEntry& file : *files) {
    directory.Write("model/" + file.name, ToText(storage_.Get("/model/" + file.name)));
  }
  job_ = {.source = directory / "model",
          .destination = directory / "parts",
          .key = std::string(64, 'c'),
          .quantize = {.scale = ScaleRule::kMse},
          .detect = false};
  for (const int index : {0, 1, 2}) ASSERT_TRUE(CompressShard(*local, job_, index, {}).ok());
  const auto calls = [&] {
    StopAt never(-1);
    const auto again = CompressShard(WatchedStorage(*local, never), job_, 1, {});
    EXPECT_TRUE(again.ok() && again->skipped);
    return never.begun();
  };
  const int before = calls();
  const std::string shard = directory / "model/model-00002-of-00003.safetensors";
  const std::string copy = shard + ".copy";
  std::filesystem::copy_file(shard, copy);
  std::filesystem::rename(copy, shard);
  EXPECT_GT(calls(), before) << "its bytes are read";
  EXPECT_TRUE(FinalizeCompression(*local, job_, false, {}).ok());
}

TEST_F(ShardJobTest, WhatIsMeasuredIsWrittenOnceAndLeftAsItIs) {
  const std::string file = ImportanceDirectory(job_) + "/importance.safetensors";
  const MemoryStorage::Bytes before = storage_.Get(file);
  ASSERT_NE(before, nullptr);
  const std::string sha256 = job_.importance_sha256;
  EXPECT_EQ(sha256.size(), 64U);
  Prepare({});
  EXPECT_EQ(job_.importance_sha256, sha256);
  EXPECT_EQ(storage_.Get(file), before);
}

TEST_F(ShardJobTest, NothingIsWrittenBeforeTheShardsWhereNothingIsMeasured) {
  ASSERT_TRUE(storage_.RemoveDirectory(ImportanceDirectory(job_)).ok());
  Prepare({.scale = ScaleRule::kMse});
  EXPECT_EQ(job_.importance_sha256, "");
  EXPECT_THAT(Left(), testing::IsEmpty());
}

// A caller names the digest, and may have made the file.
TEST_F(ShardJobTest, AMeasurementThatDoesNotFitItsTensorIsRefused) {
  const std::string file = ImportanceDirectory(job_) + "/importance.safetensors";
  const auto reason = [&](const TensorFixture& vector) {
    const std::string text = SafetensorsFile(
        {vector},
        {{"origin", "given"}, {"tokens", "1"}, {"sha256-00000", Sha256Hex(vector.bytes)}});
    uint64_t length = 0;
    std::memcpy(&length, text.data(), sizeof length);
    job_.importance_sha256 = Sha256Hex(text.substr(0, 8 + length));
    storage_.Put(file, ToBytes(text));
    return ReasonOf(CompressShard(storage_, job_, 0, {}).status());
  };
  const std::string norm = "model.layers.0.input_layernorm.weight";
  EXPECT_EQ(reason(MakeCountingTensor(norm, DType::kBF16, {3})), Reason::kDigestMismatch)
      << "three times two bytes are no float32";
  EXPECT_EQ(reason(MakeCountingTensor(norm, DType::kF32, {65})), Reason::kDigestMismatch)
      << "a norm of 64";
  EXPECT_EQ(reason(MakeCountingTensor(norm, DType::kF32, {1, 64})), Reason::kDigestMismatch);
}

TEST_F(ShardJobTest, AMeasurementThatIsNotTheJobsIsRefused) {
  const std::string file = ImportanceDirectory(job_) + "/importance.safetensors";
  const std::string good = ToText(storage_.Get(file));
  const auto reason = [&](const std::string& text) {
    storage_.Put(file, ToBytes(text));
    return ReasonOf(CompressShard(storage_, job_, 2, {}).status());
  };
  std::string bad = good;
  bad[good.find("built_in")] = 'B';
  EXPECT_EQ(reason(bad), Reason::kDigestMismatch) << "the header";
  bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  EXPECT_EQ(reason(bad), Reason::kDigestMismatch) << "a vector of the shard";
  EXPECT_EQ(reason(good.substr(0, 100)), Reason::kHeaderInvalid);
  EXPECT_EQ(reason(""), Reason::kHeaderInvalid);
  storage_.Remove(file);
  EXPECT_EQ(ReasonOf(CompressShard(storage_, job_, 2, {}).status()), Reason::kSourceNotFound);
  EXPECT_THAT(Left(), testing::IsEmpty());
}

TEST_F(ShardJobTest, AFinishedJobIsFinishedForWhoAsksAgain) {
  CompressAll();
  const auto first = FinalizeCompression(storage_, job_, false, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto before = Content(storage_, "/parts");
  for (const bool overwrite : {false, true}) {
    const auto again = FinalizeCompression(storage_, job_, overwrite, {});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->manifest, first->manifest);
    EXPECT_EQ(again->kept, first->kept);
    EXPECT_EQ(again->bytes_in, first->bytes_in);
    EXPECT_EQ(again->bytes_out, first->bytes_out);
  }
  EXPECT_EQ(Content(storage_, "/parts"), before);
}

// As a call leaves it that was killed after its commit.
TEST_F(ShardJobTest, WhoAsksAgainRemovesWhatWasNotRemoved) {
  CompressAll();
  std::map<std::string, std::string> parts;
  for (const std::string& name : Left()) parts[name] = ToText(storage_.Get("/" + name));
  ASSERT_TRUE(FinalizeCompression(storage_, job_, false, {}).ok());
  for (const auto& [name, text] : parts) {
    if (!name.starts_with("parts.shard-aaaaaaaaaaaa-00001"))
      storage_.Put("/" + name, ToBytes(text));
  }
  EXPECT_FALSE(Left().empty());
  EXPECT_TRUE(FinalizeCompression(storage_, job_, true, {}).ok());
  EXPECT_EQ(Left(), std::vector<std::string>());
}

TEST_F(ShardJobTest, AnotherOutputAtTheDestinationIsNotTheJobs) {
  Prepare({.scale = ScaleRule::kMse});
  CompressAll();
  ASSERT_TRUE(FinalizeCompression(storage_, job_, false, {}).ok());
  Prepare({});
  EXPECT_EQ(ReasonOf(FinalizeCompression(storage_, job_, false, {}).status()),
            Reason::kOutputExists);
  EXPECT_EQ(ReasonOf(FinalizeCompression(storage_, job_, true, {}).status()),
            Reason::kSourceNotFound);
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
  Damage(ShardDirectory(job_, 2) + "/model-00003-of-00003.safetensors");
  EXPECT_EQ(ReasonOf(FinalizeCompression(storage_, job_, false, {}).status()),
            Reason::kDigestMismatch);
  EXPECT_TRUE(Content(storage_, "/parts").empty());
}

TEST_F(ShardJobTest, AModelInOneFileIsAJobOfOneShard) {
  PutTinyCheckpoint(storage_, "/single");
  job_.source = "/single";
  ASSERT_TRUE(storage_.RemoveDirectory(ImportanceDirectory(job_)).ok());
  const auto prepared = PrepareCompression(storage_, job_, options_, {});
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  job_.importance_sha256 = prepared->importance_sha256;
  ASSERT_TRUE(CompressShard(storage_, job_, 0, {}).ok());
  ASSERT_TRUE(FinalizeCompression(storage_, job_, false, {}).ok());
  ASSERT_TRUE(Compress(storage_, "/single", storage_, "/whole", options_, {}).ok());
  EXPECT_EQ(Content(storage_, "/parts"), Content(storage_, "/whole"));
}

TEST_F(ShardJobTest, RefusesWhatIsOneFileWhateverTheSourcesParts) {
  options_.quantize = {.format = Format::kGguf, .scheme = Scheme::kQ4_0};
  job_.quantize = options_.quantize;
  for (const absl::Status& status : {PrepareCompression(storage_, job_, options_, {}).status(),
                                     CompressShard(storage_, job_, 0, {}).status(),
                                     FinalizeCompression(storage_, job_, false, {}).status()}) {
    EXPECT_EQ(ReasonOf(status), Reason::kFeatureUnsupported);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("GGUF"));
  }
}

TEST_F(ShardJobTest, AManifestThatIsNoneOfAShardCountsAsNotFinished) {
  CompressAll();
  const std::string file = ShardDirectory(job_, 1) + "/linchpin.json";
  const Json good = *ParseJson(file, ToText(storage_.Get(file)), Reason::kInternal);
  for (const char* pointer : {"/job_key", "/samples_sha256", "/source_version",
                              "/source/files/0/size", "/output/bytes_in"}) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = nullptr;
    storage_.Put(file, ToBytes(bad.dump()));
    const absl::Status status = FinalizeCompression(storage_, job_, false, {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kSourceNotFound) << pointer;
    EXPECT_EQ(DetailsOf(status).at("missing"), "1");
  }
  EXPECT_FALSE(CompressShard(storage_, job_, 1, {})->skipped);
  EXPECT_TRUE(FinalizeCompression(storage_, job_, false, {}).ok());
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
