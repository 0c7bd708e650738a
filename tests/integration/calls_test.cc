// Every RPC on a real server, with an engine that blocks and fails as told.
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;

// Everything that a stream of responses held.
template <class Response>
struct Conversation {
  std::vector<v1::Progress> progress;
  std::optional<Response> last;
  grpc::Status status;
};

template <class Response>
Conversation<Response> ReadAll(grpc::ClientReader<Response>& reader) {
  Conversation<Response> result;
  for (Response message; reader.Read(&message);) {
    if (message.has_progress()) result.progress.push_back(message.progress());
    if (message.has_result()) result.last = message;
  }
  result.status = reader.Finish();
  return result;
}

class CallsTest : public testing::Test {
 protected:
  v1::CompressModelRequest CompressRequest() {
    v1::CompressModelRequest request;
    request.set_source(server_.root() + "/model");
    request.set_destination(server_.root() + "/out");
    std::filesystem::create_directories(request.source());
    return request;
  }

  FakeEngine fake_;
  RunningServer server_{fake_.engine(), {}};
  std::unique_ptr<v1::CompressionService::Stub> stub_ = server_.stub();
  grpc::ClientContext context_;
};

TEST_F(CallsTest, GetCapabilities) {
  v1::GetCapabilitiesResponse response;
  ASSERT_TRUE(stub_->GetCapabilities(&context_, {}, &response).ok());
  EXPECT_EQ(response.version(), "0.0.0-test");
  EXPECT_EQ(response.libtorch_version(), "none");
  EXPECT_THAT(response.families(), testing::ElementsAre("llama"));
  EXPECT_THAT(response.schemes(),
              testing::ElementsAre("w4a16", "w8a16", "w8a8", "fp8", "q4_0", "q4_1", "q5_0", "q5_1",
                                   "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16", "blocks",
                                   "pruned", "pruned_2_4"));
  EXPECT_THAT(response.formats(), testing::ElementsAre("compressed-tensors", "gguf", "dense"));
  EXPECT_THAT(response.uri_schemes(), testing::ElementsAre("file"));
  EXPECT_THAT(response.scale_rules(),
              testing::ElementsAre("importance", "signed", "minmax", "mse"));
  EXPECT_THAT(response.preserve_modes(),
              testing::ElementsAre("tensor", "scale", "lora", "restore", "none"));
  EXPECT_EQ(response.chunk_bytes(), 1U << 20);
  EXPECT_GT(response.max_message_bytes(), 4U << 20);
  EXPECT_EQ(response.max_artifact_bytes(), 100'000U);
}

TEST_F(CallsTest, PlanCompression) {
  v1::PlanCompressionRequest request;
  request.set_source(server_.root() + "/model");
  v1::PlanCompressionResponse response;
  ASSERT_TRUE(stub_->PlanCompression(&context_, request, &response).ok());
  EXPECT_EQ(response.memory_bytes(), 1000U);
  EXPECT_EQ(response.group_size(), 64);
  EXPECT_EQ(response.tensors(0).name(), "model.layers.0.mlp.up_proj.weight");
  ASSERT_EQ(response.shards_size(), 1);
  EXPECT_EQ(response.shards(0).name(), "model.safetensors");
  EXPECT_EQ(response.shards(0).bytes_in(), response.bytes_in());
  EXPECT_EQ(response.shards(0).bytes_out(), response.bytes_out());
  EXPECT_GT(response.estimated_seconds(), 0);
}

TEST_F(CallsTest, APlanTellsEveryReasonWhyItWouldFail) {
  std::filesystem::create_directory(server_.root() + "/there");
  fake_.set_memory(2'000'000);
  v1::PlanCompressionRequest request;
  request.set_source(server_.root() + "/model");
  request.set_destination(server_.root() + "/there");
  v1::PlanCompressionResponse response;
  const RichError rich = RichErrorOf(stub_->PlanCompression(&context_, request, &response));
  EXPECT_EQ(rich.info.reason(), "EXCEEDS_SERVER_LIMIT");
  EXPECT_EQ(rich.info.metadata().at("limit_bytes"), "1000000");
  EXPECT_THAT(rich.info.metadata().at("also_output_exists"), testing::HasSubstr("/there"));
}

// The plan's key is the job's, wherever the output goes; another job's is not.
TEST_F(CallsTest, TheSameJobHasTheSameKeyInEveryCall) {
  v1::PlanCompressionRequest plan;
  plan.set_source(server_.root() + "/model");
  const auto key_of_plan = [&] {
    v1::PlanCompressionResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->PlanCompression(&context, plan, &response).ok());
    return response.job_key();
  };
  const auto request = CompressRequest();
  auto reader = stub_->CompressModel(&context_, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  const std::string key = call.last->result().job_key();
  EXPECT_THAT(key, testing::MatchesRegex("[0-9a-f]{64}"));
  EXPECT_EQ(key_of_plan(), key);
  plan.mutable_quantization()->set_scale(v1::SCALE_RULE_MINMAX);
  const std::string other = key_of_plan();
  EXPECT_NE(other, key);
  plan.mutable_detection()->set_proof(v1::PROOF_LEVEL_NONE);
  EXPECT_NE(key_of_plan(), other);
}

TEST_F(CallsTest, PlanFailsAsTheCompressionWould) {
  const auto reason = [&](const std::string& source, const std::string& destination) {
    v1::PlanCompressionRequest request;
    request.set_source(source);
    request.set_destination(destination);
    v1::PlanCompressionResponse response;
    grpc::ClientContext context;
    return RichErrorOf(stub_->PlanCompression(&context, request, &response)).info.reason();
  };
  const std::string model = server_.root() + "/model";
  std::filesystem::create_directory(server_.root() + "/there");
  EXPECT_EQ(reason("", ""), "OPTION_INVALID");
  EXPECT_EQ(reason("relative", ""), "OPTION_INVALID");
  EXPECT_EQ(reason(model, server_.root() + "/there"), "OUTPUT_EXISTS");
  EXPECT_EQ(reason(model, "/elsewhere/out"), "PATH_NOT_ALLOWED");
  EXPECT_EQ(reason(model, server_.root() + "/../out"), "PATH_NOT_ALLOWED");
  fake_.FailWith(Error(Reason::kFamilyUnsupported, "config.json", "model_type is \"bloom\""));
  EXPECT_EQ(reason(model, ""), "FAMILY_UNSUPPORTED");
  // Nothing was left at a destination.
  EXPECT_THAT(std::vector(std::filesystem::directory_iterator(server_.root()), {}),
              testing::SizeIs(1));
}

TEST_F(CallsTest, DetectSuperWeights) {
  v1::DetectSuperWeightsRequest request;
  request.set_source(server_.root() + "/model");
  auto reader = stub_->DetectSuperWeights(&context_, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.last->result().detection().super_weights_size(), 2);
  EXPECT_EQ(call.last->result().detection_json(), R"({"fake":true})");
  EXPECT_EQ(server_.Metric("linchpin_super_weights_detected_total"), 2);
}

TEST_F(CallsTest, EvaluateCompression) {
  v1::EvaluateCompressionRequest request;
  request.set_source(server_.root() + "/model");
  request.mutable_tokens()->add_sequences()->add_ids(1);
  auto reader = stub_->EvaluateCompression(&context_, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.last->result().loss(), 2);
  EXPECT_EQ(call.last->result().tokens(), 1);
}

TEST_F(CallsTest, EvaluationAgainstAnotherModel) {
  v1::EvaluateCompressionRequest request;
  request.set_source(server_.root() + "/model");
  request.set_against("other");
  request.mutable_tokens()->add_sequences()->add_ids(1);
  {
    grpc::ClientContext context;
    auto reader = stub_->EvaluateCompression(&context, request);
    EXPECT_EQ(RichErrorOf(ReadAll(*reader).status).info.reason(), "OPTION_INVALID");
  }
  request.set_against(server_.root() + "/other");
  auto reader = stub_->EvaluateCompression(&context_, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.last->result().against().kl(), 0.25);
}

TEST_F(CallsTest, EvaluationNeedsTokens) {
  v1::EvaluateCompressionRequest request;
  request.set_source(server_.root() + "/model");
  auto reader = stub_->EvaluateCompression(&context_, request);
  EXPECT_EQ(RichErrorOf(ReadAll(*reader).status).info.reason(), "OPTION_INVALID");
}

TEST_F(CallsTest, CompressModel) {
  auto request = CompressRequest();
  request.mutable_quantization()->set_scale(v1::SCALE_RULE_MINMAX);
  auto reader = stub_->CompressModel(&context_, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.last->result().kept(0).how(), v1::PRESERVE_TENSOR);
  EXPECT_EQ(call.last->result().manifest_json(), "{}\n");
  EXPECT_THAT(call.last->result().notes(), testing::ElementsAre("a note"));
  EXPECT_EQ(fake_.last_options().quantize.scale, ScaleRule::kMinMax);
  EXPECT_TRUE(std::filesystem::is_directory(request.destination()));
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"compress\",result=\"ok\""), 1);
  EXPECT_EQ(server_.Metric("linchpin_compression_ratio_sum"), 4);
  EXPECT_EQ(server_.Metric("linchpin_tensors_total", "quantized"), 1);
}

// A donor is what it holds, wherever it lies.
TEST_F(CallsTest, TheContentOfADonorIsPartOfTheKey) {
  const auto key = [&](const std::string& donor) {
    v1::PlanCompressionRequest plan;
    plan.set_source(server_.root() + "/model");
    plan.mutable_quantization()->set_format(v1::OUTPUT_FORMAT_GGUF);
    plan.mutable_quantization()->set_scheme(v1::SCHEME_Q4_0);
    plan.mutable_quantization()->set_gguf_donor(donor);
    v1::PlanCompressionResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->PlanCompression(&context, plan, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.job_key();
  };
  const std::string a = server_.root() + "/a.gguf", b = server_.root() + "/b.gguf";
  const std::string before = key(a);
  EXPECT_EQ(key(b), before);
  fake_.set_fingerprint(a, "other");
  EXPECT_NE(key(a), before);
  EXPECT_EQ(key(b), before);
}

TEST_F(CallsTest, PrepareCompression) {
  v1::PrepareCompressionRequest request;
  request.mutable_job()->set_source(server_.root() + "/model");
  request.mutable_job()->set_destination(server_.root() + "/out");
  v1::PlanCompressionRequest plan;
  plan.set_source(request.job().source());
  v1::PlanCompressionResponse planned;
  ASSERT_TRUE(stub_->PlanCompression(&context_, plan, &planned).ok());
  request.mutable_job()->set_job_key(planned.job_key());
  grpc::ClientContext context, other;
  auto reader = stub_->PrepareCompression(&context, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  const v1::PreparedCompression& result = call.last->result();
  EXPECT_EQ(result.detection().super_weights_size(), 2);
  EXPECT_EQ(result.detection_json(), R"({"fake":true})");
  EXPECT_EQ(result.importance_sha256(), std::string(64, 'f'));
  EXPECT_EQ(result.job_key(), planned.job_key());
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"prepare\",result=\"ok\""), 1);
  request.mutable_job()->set_job_key(std::string(64, '0'));
  auto refused = stub_->PrepareCompression(&other, request);
  EXPECT_EQ(RichErrorOf(ReadAll(*refused).status).info.reason(), "SOURCE_CHANGED");
}

TEST_F(CallsTest, CompressShardAndFinalizeCompression) {
  v1::CompressionJob job;
  job.set_source(server_.root() + "/model");
  job.set_destination(server_.root() + "/out");
  v1::PlanCompressionRequest plan;
  plan.set_source(job.source());
  v1::PlanCompressionResponse planned;
  ASSERT_TRUE(stub_->PlanCompression(&context_, plan, &planned).ok());
  job.set_job_key(planned.job_key());
  v1::CompressShardRequest shard;
  *shard.mutable_job() = job;
  shard.set_index(1);
  grpc::ClientContext shard_context, finalize_context, other_context;
  auto reader = stub_->CompressShard(&shard_context, shard);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_TRUE(call.last->result().skipped());
  EXPECT_EQ(call.last->result().bytes_out(), 100U);
  EXPECT_EQ(call.last->result().job_key(), planned.job_key());
  v1::FinalizeCompressionRequest finalize;
  *finalize.mutable_job() = job;
  auto last = stub_->FinalizeCompression(&finalize_context, finalize);
  const auto finalized = ReadAll(*last);
  ASSERT_TRUE(finalized.status.ok()) << finalized.status.error_message();
  EXPECT_EQ(finalized.last->result().manifest_json(), "{}\n");
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"shard\",result=\"ok\""), 1);
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"finalize\",result=\"ok\""), 1);

  // Other options make another job.
  shard.mutable_job()->mutable_quantization()->set_group_size(32);
  auto other = stub_->CompressShard(&other_context, shard);
  EXPECT_EQ(RichErrorOf(ReadAll(*other).status).info.reason(), "SOURCE_CHANGED");
}

TEST_F(CallsTest, OverwriteIsPassedOn) {
  auto request = CompressRequest();
  std::filesystem::create_directory(request.destination());
  auto refused = stub_->CompressModel(&context_, request);
  EXPECT_EQ(RichErrorOf(ReadAll(*refused).status).info.reason(), "OUTPUT_EXISTS");
  request.set_overwrite(true);
  grpc::ClientContext again;
  auto accepted = stub_->CompressModel(&again, request);
  EXPECT_TRUE(ReadAll(*accepted).status.ok());
}

TEST_F(CallsTest, RootsLimitWhatIsWritten) {
  auto request = CompressRequest();
  request.set_destination("/tmp/not-below-the-root");
  auto reader = stub_->CompressModel(&context_, request);
  const auto call = ReadAll(*reader);
  EXPECT_EQ(call.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(server_.Metric("linchpin_security_rejections_total", "path_not_allowed"), 1);
  EXPECT_FALSE(std::filesystem::exists("/tmp/not-below-the-root"));
}

TEST_F(CallsTest, VerifyArtifact) {
  v1::VerifyArtifactRequest request;
  request.set_directory(server_.root() + "/out");
  auto reader = stub_->VerifyArtifact(&context_, request);
  const auto call = ReadAll(*reader);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_FALSE(call.last->result().matches());
  EXPECT_EQ(call.last->result().files(), 3);
  EXPECT_EQ(server_.Metric("linchpin_integrity_failures_total", "verify_mismatch"), 1);
}

TEST_F(CallsTest, CreateDemoModel) {
  v1::CreateDemoModelRequest request;
  request.set_destination(server_.root() + "/demo");
  v1::CreateDemoModelResponse response;
  ASSERT_TRUE(stub_->CreateDemoModel(&context_, request, &response).ok());
  EXPECT_EQ(response.bytes(), 4096U);
}

TEST_F(CallsTest, ProgressComesBeforeTheResult) {
  fake_.Hold();
  auto reader = stub_->CompressModel(&context_, CompressRequest());
  v1::CompressModelResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.progress().stage(), "quantize");
  EXPECT_EQ(message.progress().item(), "a tensor");
  EXPECT_EQ(message.progress().done_bytes(), 50U);
  EXPECT_EQ(message.progress().total_bytes(), 100U);
  fake_.Release();
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST_F(CallsTest, AnErrorOfTheEngineReachesTheCallerWhole) {
  fake_.FailWith(Error(Reason::kTensorRangeInvalid, "model.safetensors: t", "out of range",
                       "download it again"));
  auto reader = stub_->CompressModel(&context_, CompressRequest());
  const auto call = ReadAll(*reader);
  EXPECT_EQ(call.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(call.status.error_message(), "model.safetensors: t: out of range: download it again");
  EXPECT_EQ(RichErrorOf(call.status).info.reason(), "TENSOR_RANGE_INVALID");
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"compress\",result=\"failed\""), 1);
}

TEST_F(CallsTest, AnExceptionEndsTheCallAndNotTheServer) {
  fake_.ThrowOnce();
  auto reader = stub_->CompressModel(&context_, CompressRequest());
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::INTERNAL);
  grpc::ClientContext again;
  auto next = stub_->CompressModel(&again, CompressRequest());
  EXPECT_TRUE(ReadAll(*next).status.ok());
}

TEST_F(CallsTest, CancellationStopsTheWork) {
  fake_.Hold();
  auto reader = stub_->CompressModel(&context_, CompressRequest());
  ASSERT_TRUE(fake_.WaitForHeld(1));
  context_.TryCancel();
  EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
  EXPECT_EQ(fake_.stopped(), 1);
  EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(server_.Metric("linchpin_jobs_total", "kind=\"compress\",result=\"cancelled\""), 1);
  EXPECT_FALSE(std::filesystem::exists(server_.root() + "/out"));
}

TEST_F(CallsTest, ADeadlineStopsTheWork) {
  fake_.Hold();
  v1::DetectSuperWeightsRequest request;
  request.set_source(server_.root() + "/model");
  // On a slow machine it may pass before the work begins: then with a longer one.
  for (milliseconds allowed(100); fake_.stopped() == 0 && allowed < kPatience; allowed *= 4) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + allowed);
    auto reader = stub_->DetectSuperWeights(&context, request);
    EXPECT_EQ(ReadAll(*reader).status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
  }
  EXPECT_EQ(fake_.stopped(), 1);
}

TEST_F(CallsTest, ADroppedConnectionStopsTheWork) {
  fake_.Hold();
  {
    const auto channel =
        grpc::CreateCustomChannel(server_.address(), grpc::InsecureChannelCredentials(), [] {
          grpc::ChannelArguments arguments;
          arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
          return arguments;
        }());
    const auto stub = v1::CompressionService::NewStub(channel);
    grpc::ClientContext context;
    auto reader = stub->CompressModel(&context, CompressRequest());
    ASSERT_TRUE(fake_.WaitForHeld(1));
  }  // the reader goes without Finish, which cancels the call
  EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
}

TEST_F(CallsTest, AUnaryCallIsCancelledToo) {
  fake_.Hold();
  v1::CreateDemoModelRequest request;
  request.set_destination(server_.root() + "/demo");
  v1::CreateDemoModelResponse response;
  std::jthread canceller([&] {
    EXPECT_TRUE(fake_.WaitForHeld(1));
    context_.TryCancel();
  });
  EXPECT_EQ(stub_->CreateDemoModel(&context_, request, &response).error_code(),
            grpc::StatusCode::CANCELLED);
  fake_.Release();
  EXPECT_TRUE(server_.jobs().WaitIdle(kPatience));
}

TEST_F(CallsTest, CallsAreCountedByMethodAndCode) {
  v1::GetCapabilitiesResponse response;
  ASSERT_TRUE(stub_->GetCapabilities(&context_, {}, &response).ok());
  const std::string labels =
      "{grpc_method=\"GetCapabilities\",grpc_service=\"linchpin.v1.CompressionService\","
      "grpc_type=\"unary\"}";
  EXPECT_EQ(server_.Metric("grpc_server_started_total" + labels), 1);
  EXPECT_EQ(server_.Metric("grpc_server_handling_seconds_count" + labels), 1);
  fake_.FailWith(Error(Reason::kNotACheckpoint, "model", "no config.json"));
  grpc::ClientContext context;
  auto reader = stub_->CompressModel(&context, CompressRequest());
  ReadAll(*reader);
  EXPECT_EQ(server_.Metric("grpc_server_handled_total{grpc_code=\"InvalidArgument\"",
                           "\"CompressModel\""),
            1);
}

}  // namespace
}  // namespace linchpin
