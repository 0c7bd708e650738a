#include "client/calls.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>

#include "client/errors.h"
#include "client/requests.h"
#include "client/sha256.h"
#include "grpcpp/server_builder.h"
#include "tests/support/patience.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/client/directory_content.h"

namespace linchpin {
namespace {

// A server that plays what a test wants.
class PlayedServer : public v1::CompressionService::Service {
 public:
  std::atomic<bool> waits = false;  // a call does, until it is cancelled

  grpc::Status GetCapabilities(grpc::ServerContext*, const v1::GetCapabilitiesRequest*,
                               v1::GetCapabilitiesResponse* response) override {
    response->set_version("9.9.9");
    return grpc::Status::OK;
  }

  grpc::Status DetectSuperWeights(
      grpc::ServerContext* context, const v1::DetectSuperWeightsRequest* request,
      grpc::ServerWriter<v1::DetectSuperWeightsResponse>* writer) override {
    v1::DetectSuperWeightsResponse response;
    response.mutable_progress()->set_stage("forward");
    writer->Write(response);
    if (request->source() == "wait") {
      waits = true;
      while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return grpc::Status::CANCELLED;
    }
    if (request->source() == "no result") return grpc::Status::OK;
    if (request->source() == "fail") {
      return LocalError(grpc::StatusCode::NOT_FOUND, "SOURCE_NOT_FOUND", "x", "y", "z");
    }
    response.mutable_result()->set_detection_json("{}");
    writer->Write(response);
    return grpc::Status::OK;
  }

  // Sends every file back in upper case; lies about one digest if the model is named "lie".
  grpc::Status CompressArtifact(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::CompressArtifactResponse, v1::CompressArtifactRequest>* stream)
      override {
    std::vector<std::pair<std::string, std::string>> files;
    bool finished = false;
    for (v1::CompressArtifactRequest part; stream->Read(&part);) {
      if (part.has_file()) files.emplace_back(part.file().name(), "");
      if (part.has_chunk()) files.back().second += part.chunk().data();
      if (part.has_file() && part.file().name() == "refused") {
        return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "FORMAT_REFUSED", "refused", "w",
                          "r");
      }
      finished = finished || part.has_finish();
    }
    if (!finished) return {grpc::StatusCode::INVALID_ARGUMENT, "truncated"};
    for (auto& [name, text] : files) {
      for (char& c : text) c = static_cast<char>(std::toupper(c));
      Send(stream, name, text);
    }
    v1::CompressArtifactResponse last;
    last.mutable_result()->set_bytes_in(files.size());
    stream->Write(last);
    return grpc::Status::OK;
  }

 private:
  template <typename Stream>
  static void Send(Stream* stream, const std::string& name, const std::string& text) {
    v1::CompressArtifactResponse part;
    part.mutable_file()->set_name(name);
    part.mutable_file()->set_size(text.size());
    stream->Write(part);
    part.mutable_chunk()->set_data(text);
    stream->Write(part);
    Sha256 digest;
    digest.Update(name == "lie" ? "other" : text);
    part.mutable_end()->set_sha256(digest.Hex());
    stream->Write(part);
  }
};

class CallsTest : public testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    builder.RegisterService(&played_);
    server_ = builder.BuildAndStart();
    stub_ = v1::CompressionService::NewStub(server_->InProcessChannel({}));
  }

  CallSettings settings() { return {*stub_, interrupts_, /*quiet=*/true}; }

  Interrupts interrupts_;  // before the server's threads
  PlayedServer played_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::CompressionService::Stub> stub_;
  TemporaryDirectory scratch_;
};

TEST_F(CallsTest, UnaryCallReturnsItsResponse) {
  v1::GetCapabilitiesResponse response;
  ASSERT_TRUE(Call(settings(), &v1::CompressionService::Stub::GetCapabilities,
                   v1::GetCapabilitiesRequest(), response)
                  .ok());
  EXPECT_EQ(response.version(), "9.9.9");
}

TEST_F(CallsTest, StreamGivesItsResult) {
  v1::DetectionResult result;
  ASSERT_TRUE(Detect(settings(), {}, result).ok());
  EXPECT_EQ(result.detection_json(), "{}");
}

TEST_F(CallsTest, StreamGivesTheServersError) {
  v1::DetectSuperWeightsRequest request;
  v1::DetectionResult result;
  request.set_source("fail");
  EXPECT_EQ(ErrorLine(Detect(settings(), request, result), ""),
            "error: x: y: z [SOURCE_NOT_FOUND]");
}

TEST_F(CallsTest, StreamWithoutAResultIsAnError) {
  v1::DetectSuperWeightsRequest request;
  v1::DetectionResult result;
  request.set_source("no result");
  EXPECT_EQ(ReasonOf(Detect(settings(), request, result)), "STREAM_INVALID");
}

TEST_F(CallsTest, RequestThatIsTooLargeIsNotSent) {
  v1::DetectSuperWeightsRequest request;
  v1::DetectionResult result;
  request.mutable_detection()->mutable_prompt()->set_text(std::string(kMaxRequestBytes, 'x'));
  EXPECT_EQ(ReasonOf(Detect(settings(), request, result)), "OPTION_INVALID");
}

TEST_F(CallsTest, SignalCancelsTheCall) {
  v1::DetectSuperWeightsRequest request;
  v1::DetectionResult result;
  request.set_source("wait");
  std::thread later([this] {
    EXPECT_TRUE(Comes([this] { return played_.waits.load(); }));
    kill(getpid(), SIGINT);
  });
  EXPECT_EQ(Detect(settings(), request, result).error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(interrupts_.signal(), SIGINT);
  later.join();
}

TEST_F(CallsTest, UploadWritesWhatComesBack) {
  scratch_.Write("model/config.json", "abc");
  scratch_.Write("model/sub/w", std::string(3 << 20, 'z'));
  v1::CompressionResult result;
  ASSERT_TRUE(
      CompressByUpload(settings(), {}, scratch_ / "model", scratch_ / "out", false, result).ok());
  EXPECT_EQ(result.bytes_in(), 2U);
  EXPECT_EQ(ReadAll(scratch_ / "out/config.json"), "ABC");
  EXPECT_EQ(ReadAll(scratch_ / "out/sub/w"), std::string(3 << 20, 'Z'));
}

TEST_F(CallsTest, UploadLeavesNothingAfterAnError) {
  scratch_.Write("lying/lie", "abc");
  scratch_.Write("refusing/refused", "abc");
  v1::CompressionResult result;
  const auto reason = [&](const std::string& model) {
    return ReasonOf(
        CompressByUpload(settings(), {}, scratch_ / model, scratch_ / "out", false, result));
  };
  EXPECT_EQ(reason("lying"), "DIGEST_MISMATCH");
  EXPECT_EQ(reason("refusing"), "FORMAT_REFUSED");
  EXPECT_EQ(reason("nowhere"), "SOURCE_NOT_FOUND");
  EXPECT_EQ(EntryCount(scratch_.path()), 2U);
}

}  // namespace
}  // namespace linchpin
