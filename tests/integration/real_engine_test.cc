// The whole path over RPC: the demo model is written, planned, searched,
// compressed, verified and measured by the real engine.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "artifact/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

std::string Content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class RealEngineTest : public testing::Test {
 protected:
  // One demo model for all tests: it is only read.
  static void SetUpTestSuite() {
    engine_ = new Engine(PipelineEngine());
    server_ = new RunningServer(
        *engine_,
        {.slots = 2, .memory = uint64_t{8} << 30, .max_artifact_bytes = uint64_t{100} << 20});
    v1::CreateDemoModelRequest request;
    request.set_destination(Model());
    v1::CreateDemoModelResponse response;
    grpc::ClientContext context;
    const grpc::Status status = server_->stub()->CreateDemoModel(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_GT(response.bytes(), 100'000U);
  }
  static void TearDownTestSuite() {
    delete server_;
    delete engine_;
  }

  static std::string Model() { return server_->root() + "/demo"; }

  template <class Response, class Reader>
  Response Result(Reader reader) {
    Response last;
    for (Response message; reader->Read(&message);) {
      if (message.has_result()) last = message;
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return last;
  }

  static inline Engine* engine_ = nullptr;
  static inline RunningServer* server_ = nullptr;
  std::unique_ptr<v1::CompressionService::Stub> stub_ = server_->stub();
  grpc::ClientContext context_;
};

TEST_F(RealEngineTest, PlansFromHeadersAlone) {
  v1::PlanCompressionRequest request;
  request.set_source(Model());
  request.set_destination(server_->root() + "/planned");
  v1::PlanCompressionResponse response;
  const grpc::Status status = stub_->PlanCompression(&context_, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_GT(response.bytes_in(), response.bytes_out());
  EXPECT_GT(response.memory_bytes(), 0U);
  uint64_t bytes_in = 0;
  for (const v1::TensorPlan& tensor : response.tensors()) bytes_in += tensor.bytes_in();
  EXPECT_EQ(bytes_in, response.bytes_in());
  EXPECT_FALSE(fs::exists(request.destination()));
}

TEST_F(RealEngineTest, FindsTheSuperWeight) {
  v1::DetectSuperWeightsRequest request;
  request.set_source(Model());
  const auto response =
      Result<v1::DetectSuperWeightsResponse>(stub_->DetectSuperWeights(&context_, request));
  const v1::Detection& found = response.result().detection();
  ASSERT_GE(found.super_weights_size(), 1);
  EXPECT_EQ(found.super_weights(0).tensor(), "model.layers.1.mlp.down_proj.weight");
  EXPECT_THAT(response.result().detection_json(), testing::HasSubstr("\"super_weights\""));
}

TEST_F(RealEngineTest, CompressesAndVerifies) {
  v1::CompressModelRequest request;
  request.set_source(Model());
  request.set_destination(server_->root() + "/compressed");
  const auto response = Result<v1::CompressModelResponse>(stub_->CompressModel(&context_, request));
  const v1::CompressionResult& result = response.result();
  EXPECT_LT(result.bytes_out(), result.bytes_in());
  ASSERT_GE(result.kept_size(), 1);
  for (const v1::KeptWeight& kept : result.kept()) {
    EXPECT_EQ(kept.source_value(), kept.stored_value()) << kept.tensor();
    EXPECT_EQ(kept.how(), v1::PRESERVE_TENSOR);
  }
  EXPECT_EQ(Content(fs::path(request.destination()) / "linchpin.json"), result.manifest_json());
  EXPECT_EQ(Sha256Hex(result.manifest_json()), result.manifest_sha256());

  v1::VerifyArtifactRequest verify;
  verify.set_directory(request.destination());
  grpc::ClientContext context;
  const auto verified = Result<v1::VerifyArtifactResponse>(stub_->VerifyArtifact(&context, verify));
  EXPECT_TRUE(verified.result().matches());
  EXPECT_GT(verified.result().files(), 0);

  // A changed byte is found.
  fs::path shard = fs::path(request.destination()) / "model.safetensors";
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x5a');
  file.close();
  grpc::ClientContext again;
  const auto changed = Result<v1::VerifyArtifactResponse>(stub_->VerifyArtifact(&again, verify));
  EXPECT_FALSE(changed.result().matches());
}

TEST_F(RealEngineTest, BytesInAndOutGiveTheSameAsByReference) {
  v1::CompressModelRequest request;
  request.set_source(Model());
  request.set_destination(server_->root() + "/by-reference");
  Result<v1::CompressModelResponse>(stub_->CompressModel(&context_, request));

  grpc::ClientContext context;
  auto stream = stub_->CompressArtifact(&context);
  v1::CompressArtifactRequest message;
  message.mutable_options();
  stream->Write(message);
  for (const auto& entry : fs::directory_iterator(Model())) {
    const std::string content = Content(entry.path());
    message.mutable_file()->set_name(entry.path().filename());
    message.mutable_file()->set_size(content.size());
    stream->Write(message);
    for (size_t offset = 0; offset < content.size(); offset += 1 << 20) {
      message.mutable_chunk()->set_offset(offset);
      message.mutable_chunk()->set_data(content.substr(offset, 1 << 20));
      stream->Write(message);
    }
    message.mutable_end()->set_sha256(Sha256Hex(content));
    stream->Write(message);
  }
  message.mutable_finish();
  stream->Write(message);
  std::map<std::string, std::string> files;
  std::string name;
  for (v1::CompressArtifactResponse response; stream->Read(&response);) {
    if (response.has_file()) name = response.file().name();
    if (response.has_chunk()) files[name] += response.chunk().data();
  }
  const grpc::Status status = stream->Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(files.count("linchpin.json"), 1U);
  EXPECT_EQ(files["model.safetensors"],
            Content(fs::path(request.destination()) / "model.safetensors"));
  EXPECT_EQ(files["config.json"], Content(fs::path(request.destination()) / "config.json"));
}

TEST_F(RealEngineTest, MeasuresTheLoss) {
  v1::EvaluateCompressionRequest request;
  request.set_source(Model());
  auto* ids = request.mutable_tokens()->add_sequences();
  for (int id = 1; id <= 16; ++id) ids->add_ids(id);
  const auto response =
      Result<v1::EvaluateCompressionResponse>(stub_->EvaluateCompression(&context_, request));
  EXPECT_EQ(response.result().tokens(), 15);
  EXPECT_GT(response.result().perplexity(), 1);
}

TEST_F(RealEngineTest, StagesAreMeasured) {
  v1::DetectSuperWeightsRequest request;
  request.set_source(Model());
  Result<v1::DetectSuperWeightsResponse>(stub_->DetectSuperWeights(&context_, request));
  EXPECT_GT(server_->Metric("linchpin_stage_seconds_count{stage=\"detect\"}") +
                server_->Metric("linchpin_stage_seconds_count{stage=\"forward\"}"),
            0);
}

TEST_F(RealEngineTest, WhatIsNoModelIsRefused) {
  fs::create_directory(server_->root() + "/empty");
  v1::CompressModelRequest request;
  request.set_source(server_->root() + "/empty");
  request.set_destination(server_->root() + "/never");
  auto reader = stub_->CompressModel(&context_, request);
  v1::CompressModelResponse message;
  while (reader->Read(&message)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(RichErrorOf(status).info.reason(), "NOT_A_CHECKPOINT") << status.error_message();
  EXPECT_FALSE(fs::exists(request.destination()));
}

}  // namespace
}  // namespace linchpin
