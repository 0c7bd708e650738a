#include "service/artifact_transfer.h"

#include <deque>
#include <functional>
#include <string>

#include "artifact/digest.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_backend.h"

namespace linchpin {
namespace {

// A caller whose lines are written down beforehand.
class ScriptedChannel : public ArtifactChannel {
 public:
  absl::StatusOr<std::optional<v1::CompressArtifactRequest>> Read() override {
    RETURN_IF_ERROR(Pass());
    if (requests.empty()) return std::nullopt;
    auto next = requests.front();
    requests.pop_front();
    return next;
  }
  absl::Status Write(v1::CompressArtifactResponse& message) override {
    RETURN_IF_ERROR(Pass());
    if (static_cast<int>(responses.size()) == gone_after) {
      return Error(Reason::kCancelled, "stream", "the caller is gone");
    }
    responses.push_back(std::move(message));
    return absl::OkStatus();
  }
  void UploadDone() override { phases += "u"; }
  void DownloadBegins() override { phases += "d"; }

  void AddFile(const std::string& name, const std::string& content) {
    requests.emplace_back().mutable_file()->set_name(name);
    requests.back().mutable_file()->set_size(content.size());
    if (!content.empty()) requests.emplace_back().mutable_chunk()->set_data(content);
    requests.emplace_back().mutable_end()->set_sha256(Sha256Hex(content));
  }

  std::deque<v1::CompressArtifactRequest> requests;
  std::vector<v1::CompressArtifactResponse> responses;
  std::string phases;
  int gone_after = -1;
  // The caller cancels while the message of this number, from 0, is passed on.
  int cancels_at = -1;
  std::function<void()> cancel;
  int passed = 0;
  int late = 0;

 private:
  absl::Status Pass() {
    if (cancels_at >= 0 && passed > cancels_at) {
      ++late;
      return Error(Reason::kCancelled, "stream", "the caller is gone");
    }
    if (passed++ == cancels_at) cancel();
    return absl::OkStatus();
  }
};

class ArtifactTransferTest : public testing::Test {
 protected:
  ArtifactTransferTest() { channel_.requests.emplace_back().mutable_options(); }

  FakeBackend fake_;
  ScriptedChannel channel_;
  std::shared_ptr<JobRun> run_ = *JobRun::Admit(fake_.backend, JobKind::kArtifact);
};

TEST_F(ArtifactTransferTest, SendsTheOutputBackInChunks) {
  JobRunner roomy({.slots = 1, .bytes = 100 * kChunkBytes});
  Backend backend{.engine = fake_.engine.engine(),
                  .storage = fake_.storage,
                  .jobs = roomy,
                  .metrics = fake_.metrics,
                  .ticker = fake_.ticker,
                  .gate = *fake_.gate,
                  .max_artifact_bytes = 10 * kChunkBytes};
  auto run = *JobRun::Admit(backend, JobKind::kArtifact);
  std::string large;
  for (uint64_t i = 0; i < kChunkBytes + 5; ++i) large += static_cast<char>(i * 7);
  channel_.requests.emplace_back().mutable_file()->set_name("a.bin");
  channel_.requests.back().mutable_file()->set_size(large.size());
  channel_.requests.emplace_back().mutable_chunk()->set_data(large.substr(0, kChunkBytes));
  channel_.requests.emplace_back().mutable_chunk()->set_data(large.substr(kChunkBytes));
  channel_.requests.back().mutable_chunk()->set_offset(kChunkBytes);
  channel_.requests.emplace_back().mutable_end()->set_sha256(Sha256Hex(large));
  channel_.AddFile("empty", "");
  channel_.requests.emplace_back().mutable_finish();

  const auto last = TransferArtifact(channel_, *run);
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(last->result().bytes_out(), 100U);
  EXPECT_EQ(channel_.phases, "ud");

  ASSERT_EQ(channel_.responses.size(), 6U);
  EXPECT_EQ(channel_.responses[0].file().name(), "copy-of-a.bin");
  EXPECT_EQ(channel_.responses[0].file().size(), large.size());
  EXPECT_EQ(channel_.responses[1].chunk().data().size(), kChunkBytes);
  EXPECT_EQ(channel_.responses[2].chunk().offset(), kChunkBytes);
  EXPECT_EQ(channel_.responses[1].chunk().data() + channel_.responses[2].chunk().data(), large);
  EXPECT_EQ(channel_.responses[3].end().sha256(), Sha256Hex(large));
  EXPECT_EQ(channel_.responses[4].file().name(), "copy-of-empty");
  EXPECT_EQ(channel_.responses[5].end().sha256(), Sha256Hex(""));
}

TEST_F(ArtifactTransferTest, AStreamWithoutFinishIsTruncated) {
  channel_.AddFile("config.json", "{}");
  const auto last = TransferArtifact(channel_, *run_);
  EXPECT_EQ(ReasonOf(last.status()), Reason::kStreamInvalid);
  EXPECT_THAT(std::string(last.status().message()), testing::HasSubstr("without finish"));
  EXPECT_TRUE(channel_.responses.empty());
}

TEST_F(ArtifactTransferTest, OptionsReachTheEngine) {
  channel_.requests.front().mutable_options()->mutable_quantization()->set_scale(
      v1::SCALE_RULE_MINMAX);
  channel_.AddFile("config.json", "{}");
  channel_.requests.emplace_back().mutable_finish();
  ASSERT_TRUE(TransferArtifact(channel_, *run_).ok());
  EXPECT_EQ(fake_.engine.last_options().quantize.scale, ScaleRule::kMinMax);
  const std::vector<FileRecord> digests{{"config.json", 2, Sha256Hex("{}")}};
  EXPECT_EQ(fake_.engine.last_options().source_files, digests) << "and what is known";
}

TEST_F(ArtifactTransferTest, SendsTheDigestsThatWereTakenWhenTheOutputWasWritten) {
  Engine engine = fake_.engine.engine();
  engine.compress = [compress = engine.compress](auto&&... arguments) {
    auto result = compress(arguments...);
    if (result.ok()) result->files = {{"copy-of-config.json", 2, "as written"}};
    return result;
  };
  const Backend backend{.engine = engine,
                        .storage = fake_.storage,
                        .jobs = fake_.jobs,
                        .metrics = fake_.metrics,
                        .ticker = fake_.ticker,
                        .gate = *fake_.gate,
                        .max_artifact_bytes = 100};
  run_.reset();  // its slot
  const auto run = *JobRun::Admit(backend, JobKind::kArtifact);
  channel_.AddFile("config.json", "{}");
  channel_.AddFile("other", "1");
  channel_.requests.emplace_back().mutable_finish();
  const auto last = TransferArtifact(channel_, *run);
  ASSERT_TRUE(last.ok()) << last.status();
  ASSERT_EQ(channel_.responses.size(), 6U);
  EXPECT_EQ(channel_.responses[2].end().sha256(), "as written");
  EXPECT_EQ(channel_.responses[5].end().sha256(), Sha256Hex("1"));
}

TEST_F(ArtifactTransferTest, WrongOptionsAreRefused) {
  channel_.requests.front().mutable_options()->mutable_quantization()->set_group_size(7);
  channel_.requests.emplace_back().mutable_finish();
  EXPECT_EQ(ReasonOf(TransferArtifact(channel_, *run_).status()), Reason::kOptionInvalid);
}

// A donor is what it holds, wherever the server has it.
TEST_F(ArtifactTransferTest, TheContentOfADonorIsPartOfTheKey) {
  run_.reset();
  const auto key = [&](const std::string& donor) {
    auto run = *JobRun::Admit(fake_.backend, JobKind::kArtifact);
    ScriptedChannel channel;
    v1::QuantizationOptions& options =
        *channel.requests.emplace_back().mutable_options()->mutable_quantization();
    options.set_format(v1::OUTPUT_FORMAT_GGUF);
    options.set_scheme(v1::SCHEME_Q4_0);
    options.set_gguf_donor(donor);
    channel.AddFile("config.json", "{}");
    channel.requests.emplace_back().mutable_finish();
    const absl::Status status = TransferArtifact(channel, *run).status();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(fake_.engine.last_options().donor_storage, &run->storage());
    return run->key();
  };
  const std::string before = key("/a.gguf");
  EXPECT_EQ(key("/b.gguf"), before);
  fake_.engine.set_fingerprint("/a.gguf", "other");
  EXPECT_NE(key("/a.gguf"), before);
}

TEST_F(ArtifactTransferTest, MemoryOfTheJobIsReservedBesideTheUpload) {
  fake_.engine.set_memory(999'999);
  channel_.AddFile("config.json", "{}");
  channel_.requests.emplace_back().mutable_finish();
  EXPECT_EQ(ReasonOf(TransferArtifact(channel_, *run_).status()), Reason::kExceedsServerLimit);
}

TEST_F(ArtifactTransferTest, FailuresOfTheEngineAreTold) {
  fake_.engine.FailWith(Error(Reason::kNotFinite, "a tensor", "NaN"));
  channel_.AddFile("config.json", "{}");
  channel_.requests.emplace_back().mutable_finish();
  EXPECT_EQ(ReasonOf(TransferArtifact(channel_, *run_).status()), Reason::kNotFinite);
}

// In both directions; after that no more than one message is asked for or sent.
TEST_F(ArtifactTransferTest, ACancelAtAnyMessageEndsIt) {
  run_.reset();
  for (int at = 0;; ++at) {
    auto run = *JobRun::Admit(fake_.backend, JobKind::kArtifact);
    ScriptedChannel channel;
    channel.requests.emplace_back().mutable_options();
    channel.AddFile("config.json", "{}");
    channel.AddFile("model.safetensors", "weights");
    channel.requests.emplace_back().mutable_finish();
    channel.cancels_at = at;
    channel.cancel = [&run] { run->RequestStop(); };
    const absl::Status status = TransferArtifact(channel, *run).status();
    EXPECT_LE(channel.late, 1) << at;
    if (channel.passed <= at) {
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(at, 14) << "8 messages there and 6 back";
      break;
    }
    // All but the result was sent already.
    if (at < 13) {
      EXPECT_EQ(ReasonOf(status), Reason::kCancelled) << at;
    }
  }
}

TEST_F(ArtifactTransferTest, EndsWhenTheCallerGoesAway) {
  channel_.gone_after = 1;
  channel_.AddFile("config.json", "{}");
  channel_.requests.emplace_back().mutable_finish();
  EXPECT_EQ(ReasonOf(TransferArtifact(channel_, *run_).status()), Reason::kCancelled);
}

}  // namespace
}  // namespace linchpin
