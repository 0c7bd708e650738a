// CompressArtifact over the wire: bytes in, bytes out, and every way to get it wrong.
#include <chrono>
#include <filesystem>
#include <map>
#include <string>

#include "artifact/digest.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;
using Stream = grpc::ClientReaderWriter<v1::CompressArtifactRequest, v1::CompressArtifactResponse>;

// The caller's side of a stream.
class Caller {
 public:
  explicit Caller(RunningServer& server)
      : stub_(server.stub()), stream_(stub_->CompressArtifact(&context_)) {}

  void Options() {
    v1::CompressArtifactRequest message;
    message.mutable_options();
    stream_->Write(message);
  }
  void Header(const std::string& name, uint64_t size) {
    v1::CompressArtifactRequest message;
    message.mutable_file()->set_name(name);
    message.mutable_file()->set_size(size);
    stream_->Write(message);
  }
  void Chunk(uint64_t offset, const std::string& data) {
    v1::CompressArtifactRequest message;
    message.mutable_chunk()->set_offset(offset);
    message.mutable_chunk()->set_data(data);
    stream_->Write(message);
  }
  void End(const std::string& sha256) {
    v1::CompressArtifactRequest message;
    message.mutable_end()->set_sha256(sha256);
    stream_->Write(message);
  }
  void File(const std::string& name, const std::string& content) {
    Header(name, content.size());
    if (!content.empty()) Chunk(0, content);
    End(Sha256Hex(content));
  }
  void Finish() {
    v1::CompressArtifactRequest message;
    message.mutable_finish();
    stream_->Write(message);
  }
  void Close() { stream_->WritesDone(); }

  void AwaitProgress() {
    v1::CompressArtifactResponse message;
    ASSERT_TRUE(stream_->Read(&message));
    EXPECT_EQ(message.progress().item(), "a tensor");
  }
  // Until the result begins to come.
  void AwaitFile() {
    v1::CompressArtifactResponse message;
    while (!message.has_file()) ASSERT_TRUE(stream_->Read(&message));
  }
  // Reads to the end: the files that came back, by name.
  std::map<std::string, std::string> Download() {
    std::map<std::string, std::string> files;
    std::string name;
    for (v1::CompressArtifactResponse message; stream_->Read(&message);) {
      if (message.has_file()) name = message.file().name();
      if (message.has_file()) files[name];
      if (message.has_chunk()) {
        EXPECT_EQ(message.chunk().offset(), files[name].size());
        files[name] += message.chunk().data();
      }
      if (message.has_end()) {
        EXPECT_EQ(message.end().sha256(), Sha256Hex(files[name]));
      }
      if (message.has_result()) result = message.result();
    }
    status = stream_->Finish();
    return files;
  }
  std::string Reason() {
    Download();
    return RichErrorOf(status).info.reason();
  }
  grpc::ClientContext& context() { return context_; }

  std::optional<v1::CompressionResult> result;
  grpc::Status status;

 private:
  std::unique_ptr<v1::CompressionService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
};

class ArtifactStreamTest : public testing::Test {
 protected:
  FakeEngine fake_;
  RunningServer server_{fake_.engine(), {.memory = 50'000'000, .max_artifact_bytes = 10'000'000}};
};

TEST_F(ArtifactStreamTest, BytesInBytesOut) {
  Caller caller(server_);
  caller.Options();
  caller.File("config.json", "{}");
  std::string large(3 << 20, 'w');
  large += "tail";
  caller.Header("model.safetensors", large.size());
  for (size_t offset = 0; offset < large.size(); offset += 1 << 20) {
    caller.Chunk(offset, large.substr(offset, 1 << 20));
  }
  caller.End(Sha256Hex(large));
  caller.Finish();
  const auto files = caller.Download();
  ASSERT_TRUE(caller.status.ok()) << caller.status.error_message();
  EXPECT_EQ(files.size(), 2U);
  EXPECT_EQ(files.at("copy-of-config.json"), "{}");
  EXPECT_EQ(files.at("copy-of-model.safetensors"), large);
  ASSERT_TRUE(caller.result.has_value());
  EXPECT_EQ(caller.result->bytes_out(), 100U);
  EXPECT_EQ(server_.jobs().admission().reserved_bytes(), 0U);
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"artifact\",result=\"ok\""), 1);
}

TEST_F(ArtifactStreamTest, ProgressComesWhileItRuns) {
  fake_.Hold();
  Caller caller(server_);
  caller.Options();
  caller.File("config.json", "{}");
  caller.Finish();
  caller.AwaitProgress();
  fake_.Release();
  caller.Download();
  EXPECT_TRUE(caller.status.ok());
}

TEST_F(ArtifactStreamTest, WithoutFinishItIsTruncated) {
  Caller caller(server_);
  caller.Options();
  caller.File("config.json", "{}");
  caller.Close();
  EXPECT_EQ(caller.Reason(), "STREAM_INVALID");
  EXPECT_EQ(caller.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ArtifactStreamTest, WithoutOptionsItIsRefused) {
  Caller caller(server_);
  caller.File("config.json", "{}");
  EXPECT_EQ(caller.Reason(), "STREAM_INVALID");
}

TEST_F(ArtifactStreamTest, AWrongDigestIsRefusedAndCounted) {
  Caller caller(server_);
  caller.Options();
  caller.Header("config.json", 2);
  caller.Chunk(0, "{}");
  caller.End(Sha256Hex("{ }"));
  EXPECT_EQ(caller.Reason(), "DIGEST_MISMATCH");
  EXPECT_EQ(server_.Metric("linchpin_integrity_failures_total", "digest_mismatch"), 1);
}

TEST_F(ArtifactStreamTest, AWrongOffsetIsRefused) {
  Caller caller(server_);
  caller.Options();
  caller.Header("config.json", 4);
  caller.Chunk(2, "{}");
  EXPECT_EQ(caller.Reason(), "STREAM_INVALID");
}

TEST_F(ArtifactStreamTest, ANameThatLeadsAwayIsRefusedAndCounted) {
  Caller caller(server_);
  caller.Options();
  caller.Header("../config.json", 4);
  EXPECT_EQ(caller.Reason(), "PATH_NOT_ALLOWED");
  EXPECT_EQ(server_.Metric("linchpin_security_rejections_total", "path_not_allowed"), 1);
}

TEST_F(ArtifactStreamTest, TooMuchIsRefusedWhenItIsAnnounced) {
  Caller caller(server_);
  caller.Options();
  caller.Header("model.safetensors", 10'000'001);
  EXPECT_EQ(caller.Reason(), "EXCEEDS_SERVER_LIMIT");
  EXPECT_EQ(RichErrorOf(caller.status).info.metadata().at("limit_bytes"), "10000000");
  EXPECT_EQ(server_.jobs().admission().reserved_bytes(), 0U);
}

TEST_F(ArtifactStreamTest, AnUploadHoldsASlotAndItsBytes) {
  Caller first(server_);
  first.Options();
  first.Header("model.safetensors", 1'000'000);
  EXPECT_TRUE(Comes([&] { return server_.jobs().admission().reserved_bytes() != 0; }));
  EXPECT_EQ(server_.jobs().admission().reserved_bytes(), 1'000'000U);
  Caller second(server_);
  EXPECT_EQ(second.Reason(), "BUSY");
  first.context().TryCancel();
  EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
  EXPECT_EQ(server_.jobs().admission().reserved_bytes(), 0U);
}

TEST_F(ArtifactStreamTest, CancellationDuringTheUploadEndsIt) {
  Caller caller(server_);
  caller.Options();
  caller.Header("config.json", 10);
  caller.Chunk(0, "{}");
  EXPECT_TRUE(Comes([&] { return server_.jobs().jobs() == 1; }));
  caller.context().TryCancel();
  EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"artifact\",result=\"cancelled\""), 1);
}

TEST_F(ArtifactStreamTest, CancellationDuringTheWorkEndsIt) {
  fake_.Hold();
  Caller caller(server_);
  caller.Options();
  caller.File("config.json", "{}");
  caller.Finish();
  ASSERT_TRUE(fake_.WaitForHeld(1));
  caller.context().TryCancel();
  EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
  EXPECT_EQ(fake_.stopped(), 1);
}

TEST(ArtifactStream, CancellationDuringTheDownloadEndsIt) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.memory = 100'000'000, .max_artifact_bytes = 40'000'000});
  Caller caller(server);
  caller.Options();
  // More than the transport takes up for a caller that does not read.
  const std::string megabyte(1 << 20, 'x');
  for (int i = 0; i < 24; ++i) caller.File("f" + std::to_string(i), megabyte);
  caller.Finish();
  caller.AwaitFile();
  caller.context().TryCancel();
  EXPECT_TRUE(server.jobs().WaitIdle(kPatience));
  EXPECT_EQ(server.Metric("linchpin_jobs_total", "kind=\"artifact\",result=\"cancelled\""), 1);
}

TEST(ArtifactStream, AScratchDirectoryTakesThePlaceOfMemory) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.memory = 1000, .scratch = 10'000'000});
  const std::string content(20'000, 'w');  // more than the memory
  Caller caller(server);
  caller.Options();
  caller.File("config.json", "{}");
  caller.File("sub/model.safetensors", content);
  caller.Finish();
  const auto files = caller.Download();
  ASSERT_TRUE(caller.status.ok()) << caller.status.error_message();
  EXPECT_EQ(files.at("copy-of-sub/model.safetensors"), content);
  EXPECT_EQ(server.jobs().admission().reserved_bytes(Room::kScratch), 0U);
  size_t left = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(server.scratch_directory()))
    left += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(left, 0U);
}

TEST(ArtifactStream, AFullScratchDirectoryRefusesLikeFullMemory) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.slots = 2, .scratch = 50'000});
  Caller never(server);
  never.Options();
  never.Header("model.safetensors", 50'001);
  EXPECT_EQ(never.Reason(), "EXCEEDS_SERVER_LIMIT");
  EXPECT_EQ(RichErrorOf(never.status).info.metadata().at("limit_bytes"), "50000");
  Caller first(server);
  first.Options();
  first.Header("model.safetensors", 30'000);
  EXPECT_TRUE(Comes([&] { return server.Metric("linchpin_scratch_reserved_bytes") == 30'000; }));
  Caller second(server);
  second.Options();
  second.Header("model.safetensors", 30'000);
  EXPECT_EQ(second.Reason(), "BUSY");
  EXPECT_TRUE(RichErrorOf(second.status).retry.has_value());
  first.context().TryCancel();
  EXPECT_TRUE(server.jobs().WaitIdle(kPatience));
}

TEST(ArtifactStream, WhatGoesWrongInScratchIsNamedAsItWasSent) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.scratch = 50'000});
  Caller caller(server);
  caller.Options();
  caller.File("a", "file");
  caller.File("a/b", "a file in that file");
  caller.Finish();
  EXPECT_FALSE(caller.Reason().empty());
  EXPECT_THAT(caller.status.error_message(), testing::HasSubstr("model/a"));
  EXPECT_THAT(caller.status.error_message(), testing::Not(testing::HasSubstr("scratch")));
}

TEST(ArtifactStream, ASilentCallerIsCutOff) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.idle_timeout = milliseconds(100)});
  Caller caller(server);
  caller.Options();
  caller.Header("config.json", 10);
  EXPECT_EQ(caller.Reason(), "STREAM_INVALID");
  EXPECT_THAT(caller.status.error_message(), testing::HasSubstr("nothing came"));
}

TEST(ArtifactStream, ACallerThatDoesNotReadIsCutOff) {
  // Where the upload itself stands still for so long, with more patience.
  double cut_off = 0;
  for (milliseconds idle(300); cut_off == 0 && idle < kPatience; idle *= 4) {
    FakeEngine fake;
    RunningServer server(
        fake.engine(),
        {.memory = 100'000'000, .max_artifact_bytes = 40'000'000, .idle_timeout = idle});
    Caller caller(server);
    caller.Options();
    // More than the transport takes up for a caller that does not read.
    const std::string megabyte(1 << 20, 'x');
    for (int i = 0; i < 24; ++i) caller.File("f" + std::to_string(i), megabyte);
    caller.Finish();
    EXPECT_TRUE(server.jobs().WaitIdle(kPatience));
    EXPECT_EQ(server.Metric("linchpin_jobs_total", "kind=\"artifact\",result=\"ok\""), 0);
    cut_off = server.Metric("linchpin_jobs_total", "kind=\"artifact\",result=\"cancelled\"");
  }
  EXPECT_EQ(cut_off, 1);
}

}  // namespace
}  // namespace linchpin
