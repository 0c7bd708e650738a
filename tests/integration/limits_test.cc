// What the server refuses: too many jobs, too much memory, too large messages.
#include <chrono>
#include <string>
#include <thread>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;

v1::DetectSuperWeightsRequest Request(const RunningServer& server) {
  v1::DetectSuperWeightsRequest request;
  request.set_source(server.root() + "/model");
  return request;
}

// The status of a DetectSuperWeights call.
grpc::Status Detect(RunningServer& server, grpc::ClientContext& context) {
  auto reader = server.stub()->DetectSuperWeights(&context, Request(server));
  for (v1::DetectSuperWeightsResponse message; reader->Read(&message);) {
  }
  return reader->Finish();
}

TEST(Limits, AFullServerSaysWhenToComeBack) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.slots = 1});
  fake.Hold();
  grpc::ClientContext running;
  auto reader = server.stub()->DetectSuperWeights(&running, Request(server));
  ASSERT_TRUE(fake.WaitForHeld(1));

  grpc::ClientContext refused;
  // While the other still runs: who waited for its slot would never be answered.
  const grpc::Status status = Detect(server, refused);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const RichError rich = RichErrorOf(status);
  EXPECT_EQ(rich.info.reason(), "BUSY");
  ASSERT_TRUE(rich.retry.has_value());
  EXPECT_EQ(rich.retry->retry_delay().seconds(), 1);
  const auto trailer = refused.GetServerTrailingMetadata().find("grpc-retry-pushback-ms");
  ASSERT_NE(trailer, refused.GetServerTrailingMetadata().end());
  EXPECT_EQ(std::string(trailer->second.data(), trailer->second.size()), "1000");
  EXPECT_EQ(server.Metric("linchpin_admission_rejected_total", "busy"), 1);

  // A full server still says what it can do.
  grpc::ClientContext context;
  v1::GetCapabilitiesResponse response;
  EXPECT_TRUE(server.stub()->GetCapabilities(&context, {}, &response).ok());

  fake.Release();
  for (v1::DetectSuperWeightsResponse message; reader->Read(&message);) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST(Limits, TheNextCallFindsTheSlotOfTheLastOneFree) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.slots = 1});
  for (int i = 0; i < 50; ++i) {
    grpc::ClientContext context;
    const grpc::Status status = Detect(server, context);
    ASSERT_TRUE(status.ok()) << i << ": " << status.error_message();
  }
}

TEST(Limits, WhatCanNeverFitIsSaidSo) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.memory = 5000});
  fake.set_memory(5001);
  grpc::ClientContext context;
  const grpc::Status status = Detect(server, context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  const RichError rich = RichErrorOf(status);
  EXPECT_EQ(rich.info.reason(), "EXCEEDS_SERVER_LIMIT");
  EXPECT_EQ(rich.info.metadata().at("limit_bytes"), "5000");
  EXPECT_FALSE(rich.retry.has_value());
}

TEST(Limits, MemoryThatOthersHoldIsBusy) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.slots = 2, .memory = 5000});
  fake.set_memory(3000);
  fake.Hold();
  grpc::ClientContext running;
  auto reader = server.stub()->DetectSuperWeights(&running, Request(server));
  ASSERT_TRUE(fake.WaitForHeld(1));
  EXPECT_EQ(server.Metric("linchpin_admission_reserved_bytes"), 3000);
  grpc::ClientContext refused;
  EXPECT_EQ(RichErrorOf(Detect(server, refused)).info.reason(), "BUSY");
  running.TryCancel();
  EXPECT_TRUE(server.jobs().WaitIdle(kPatience));
  EXPECT_EQ(server.Metric("linchpin_admission_reserved_bytes"), 0);
}

TEST(Limits, AnOversizedMessageIsRefused) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {});
  v1::EvaluateCompressionRequest request;
  request.set_source(server.root() + "/model");
  request.mutable_tokens()->set_text(std::string(6 << 20, 'a'));
  grpc::ClientContext context;
  auto reader = server.stub()->EvaluateCompression(&context, request);
  v1::EvaluateCompressionResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(Limits, ASilentJobIsHeardOf) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.heartbeat = milliseconds(50)});
  fake.Hold();
  grpc::ClientContext context;
  auto reader = server.stub()->DetectSuperWeights(&context, Request(server));
  v1::DetectSuperWeightsResponse message;
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(reader->Read(&message)) << i;
  // The latest news again.
  EXPECT_EQ(message.progress().item(), "a tensor");
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  reader->Finish();
}

TEST(Limits, ManyCallersAtOnceAreServedOrRefusedAndLeaveNothingBehind) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.slots = 2});
  std::atomic<int> served = 0, refused = 0;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 8; ++i) {
      callers.emplace_back([&] {
        for (int call = 0; call < 10; ++call) {
          grpc::ClientContext context;
          const grpc::Status status = Detect(server, context);
          if (status.ok()) ++served;
          if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) ++refused;
        }
      });
    }
  }
  EXPECT_EQ(served + refused, 80);
  EXPECT_GT(served, 0);
  EXPECT_EQ(server.jobs().jobs(), 0);
  EXPECT_EQ(server.jobs().admission().slots_in_use(), 0);
  EXPECT_EQ(server.Metric("linchpin_jobs_total", "kind=\"detect\",result=\"ok\""), served);
  EXPECT_EQ(server.Metric("linchpin_jobs_total", "kind=\"detect\",result=\"refused\""), refused);
  EXPECT_EQ(server.Metric("linchpin_jobs_in_progress", "detect"), 0);
}

}  // namespace
}  // namespace linchpin
