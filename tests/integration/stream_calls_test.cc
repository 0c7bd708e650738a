// What holds for every RPC that streams responses: its caller hears something while the work says
// nothing, and the work ends with its caller.
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/fake_backend.h"
#include "tests/support/fake_engine.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

using Stub = v1::CompressionService::Stub;

// A call that has begun: reads a message, false at the end; whether it is progress.
struct Stream {
  std::function<bool(bool& is_progress)> read;
  std::shared_ptr<void> reader;  // or what keeps it
};
using Begin = std::function<Stream(Stub&, grpc::ClientContext&)>;

template <class Request, class Response>
Begin Of(std::unique_ptr<grpc::ClientReader<Response>> (Stub::*method)(grpc::ClientContext*,
                                                                       const Request&),
         const Request& request) {
  return [method, request](Stub& stub, grpc::ClientContext& context) {
    std::shared_ptr<grpc::ClientReader<Response>> reader = (stub.*method)(&context, request);
    return Stream{[reader](bool& is_progress) {
                    Response message;
                    if (!reader->Read(&message)) return false;
                    is_progress = message.has_progress();
                    return true;
                  },
                  reader};
  };
}

// With everything sent that the work needs.
Stream BeginArtifact(Stub& stub, grpc::ClientContext& context) {
  std::shared_ptr<
      grpc::ClientReaderWriter<v1::CompressArtifactRequest, v1::CompressArtifactResponse>>
      stream = stub.CompressArtifact(&context);
  v1::CompressArtifactRequest options, finish;
  options.mutable_options();
  finish.mutable_finish();
  EXPECT_TRUE(stream->Write(options) && stream->Write(finish));
  return {[stream](bool& is_progress) {
            v1::CompressArtifactResponse message;
            if (!stream->Read(&message)) return false;
            is_progress = message.has_progress();
            return true;
          },
          stream};
}

class StreamCallsTest : public testing::Test {
 protected:
  v1::CompressionJob Job() {
    v1::PlanCompressionRequest plan;
    plan.set_source(model_);
    v1::PlanCompressionResponse planned;
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->PlanCompression(&context, plan, &planned).ok());
    v1::CompressionJob job;
    job.set_source(model_);
    job.set_destination(server_.root() + "/parts");
    job.set_job_key(planned.job_key());
    return job;
  }

  // Every method that streams responses, by its name.
  std::map<std::string, Begin> Calls() {
    v1::DetectSuperWeightsRequest detect;
    detect.set_source(model_);
    v1::EvaluateCompressionRequest evaluate;
    evaluate.set_source(model_);
    evaluate.mutable_tokens()->add_sequences()->add_ids(1);
    v1::CompressModelRequest compress;
    compress.set_source(model_);
    compress.set_destination(server_.root() + "/out");
    v1::PrepareCompressionRequest prepare;
    *prepare.mutable_job() = Job();
    v1::CompressShardRequest shard;
    *shard.mutable_job() = Job();
    v1::FinalizeCompressionRequest finalize;
    *finalize.mutable_job() = Job();
    v1::VerifyArtifactRequest verify;
    verify.set_directory(model_);
    return {{"DetectSuperWeights", Of(&Stub::DetectSuperWeights, detect)},
            {"EvaluateCompression", Of(&Stub::EvaluateCompression, evaluate)},
            {"CompressModel", Of(&Stub::CompressModel, compress)},
            {"PrepareCompression", Of(&Stub::PrepareCompression, prepare)},
            {"CompressShard", Of(&Stub::CompressShard, shard)},
            {"FinalizeCompression", Of(&Stub::FinalizeCompression, finalize)},
            {"VerifyArtifact", Of(&Stub::VerifyArtifact, verify)},
            {"CompressArtifact", BeginArtifact}};
  }

  FakeEngine fake_;
  RunningServer server_{fake_.engine(), {.heartbeat = std::chrono::milliseconds(1)}};
  const std::string model_ = server_.root() + "/model";
  std::unique_ptr<Stub> stub_ = server_.stub();
};

TEST_F(StreamCallsTest, AreAllKnownHere) {
  const auto calls = Calls();
  const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
      "linchpin.v1.CompressionService");
  size_t streams = 0;
  for (int i = 0; i < service->method_count(); ++i) {
    if (!service->method(i)->server_streaming()) continue;
    ++streams;
    EXPECT_TRUE(calls.contains(service->method(i)->name())) << service->method(i)->name();
  }
  EXPECT_EQ(calls.size(), streams);
}

// The work reports once and is then held.
TEST_F(StreamCallsTest, SpeakWhileTheWorkSaysNothingAndEndWithTheirCallers) {
  int ended = 0;
  for (const auto& [name, begin] : Calls()) {
    fake_.Hold();
    grpc::ClientContext context;
    const Stream stream = begin(*stub_, context);
    ASSERT_TRUE(fake_.WaitForHeld(1)) << name;
    for (int heard = 0; heard < 4; ++heard) {
      bool is_progress = false;
      ASSERT_TRUE(stream.read(is_progress)) << name << " after " << heard;
      EXPECT_TRUE(is_progress) << name;
    }
    context.TryCancel();
    EXPECT_TRUE(server_.jobs().WaitIdle(kPatience)) << name;
    EXPECT_EQ(fake_.stopped(), ++ended) << name;
    fake_.Release();
  }
}

// What the server promises its callers: something every 10 s at least.
TEST_F(StreamCallsTest, TheDefaultKeepsThePromise) {
  const FakeBackend fake;
  EXPECT_LT(fake.backend.heartbeat + kTickInterval, std::chrono::seconds(10));
}

}  // namespace
}  // namespace linchpin
