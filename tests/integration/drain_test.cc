// How the server goes down, and what health says of it.
#include <chrono>
#include <string>
#include <thread>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"
#include "tests/support/health_client.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;

class DrainTest : public testing::Test {
 protected:
  std::unique_ptr<grpc::ClientReader<v1::DetectSuperWeightsResponse>> Detect(
      grpc::ClientContext& context) {
    v1::DetectSuperWeightsRequest request;
    request.set_source(server_.root() + "/model");
    return stub_->DetectSuperWeights(&context, request);
  }
  grpc::Status Finish(grpc::ClientReader<v1::DetectSuperWeightsResponse>& reader) {
    for (v1::DetectSuperWeightsResponse message; reader.Read(&message);) {
    }
    return reader.Finish();
  }

  FakeEngine fake_;
  RunningServer server_{fake_.engine(), {.slots = 2}};
  std::unique_ptr<v1::CompressionService::Stub> stub_ = server_.stub();
};

TEST_F(DrainTest, HealthServesPerServiceAndWhole) {
  EXPECT_EQ(CheckHealth(server_.channel(), ""), Health::kServing);
  EXPECT_EQ(CheckHealth(server_.channel(), "linchpin.v1.CompressionService"), Health::kServing);
  EXPECT_EQ(CheckHealth(server_.channel(), "no.such.Service"), Health::kUnknown);
  EXPECT_EQ(server_.Metric("grpc_server_handled_total{grpc_code=\"OK\"", "grpc.health.v1.Health"),
            2);
}

TEST_F(DrainTest, RunningJobsMayFinishAndNewOnesAreRefused) {
  fake_.Hold();
  grpc::ClientContext running;
  const auto reader = Detect(running);
  ASSERT_TRUE(fake_.WaitForHeld(1));
  std::jthread drain([&] { server_.server().Drain(kPatience); });
  EXPECT_TRUE(Comes([&] { return server_.jobs().draining(); }));

  EXPECT_EQ(CheckHealth(server_.channel(), ""), Health::kNotServing);
  EXPECT_EQ(CheckHealth(server_.channel(), "linchpin.v1.CompressionService"), Health::kNotServing);
  EXPECT_EQ(server_.Metric("linchpin_draining"), 1);
  grpc::ClientContext refused;
  const grpc::Status status = Finish(*Detect(refused));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(RichErrorOf(status).info.reason(), "DRAINING");
  EXPECT_TRUE(RichErrorOf(status).retry.has_value());

  fake_.Release();
  EXPECT_TRUE(Finish(*reader).ok());
  drain.join();
  EXPECT_EQ(fake_.stopped(), 0);
}

TEST_F(DrainTest, WhatOutlastsThePatienceIsStoppedAndToldToComeBack) {
  fake_.Hold();
  grpc::ClientContext running;
  const auto reader = Detect(running);
  ASSERT_TRUE(fake_.WaitForHeld(1));
  std::jthread drain([&] { server_.server().Drain(milliseconds(50)); });
  const grpc::Status status = Finish(*reader);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(RichErrorOf(status).info.reason(), "DRAINING");
  drain.join();
  EXPECT_EQ(fake_.stopped(), 1);
}

TEST_F(DrainTest, AnIdleServerGoesAtOnce) {
  server_.server().Drain(std::chrono::hours(1));  // longer than a test may take
}

TEST_F(DrainTest, ReflectionListsTheServices) {
  const std::string services = ListServices(server_.channel());
  EXPECT_NE(services.find("linchpin.v1.CompressionService"), std::string::npos) << services;
  EXPECT_NE(services.find("grpc.health.v1.Health"), std::string::npos) << services;
}

}  // namespace
}  // namespace linchpin
