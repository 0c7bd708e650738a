#include "service/job_run.h"

#include <algorithm>
#include <sstream>
#include <string>

#include "base/status.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/support/fake_backend.h"

namespace linchpin {
namespace {

TEST(JobRun, CountsFromStartToEnd) {
  FakeBackend fake;
  auto run = JobRun::Admit(fake.backend, JobKind::kCompress);
  ASSERT_TRUE(run.ok());
  EXPECT_THAT(fake.metrics.Text(),
              testing::HasSubstr("linchpin_jobs_in_progress{kind=\"compress\"} 1"));
  EXPECT_TRUE((*run)->Reserve(100).ok());
  EXPECT_TRUE((*run)->End(absl::OkStatus()).ok());
  EXPECT_EQ(fake.jobs.jobs(), 0);
  EXPECT_EQ(fake.jobs.admission().reserved_bytes(), 0U);
  const std::string text = fake.metrics.Text();
  EXPECT_THAT(text, testing::HasSubstr("linchpin_jobs_in_progress{kind=\"compress\"} 0"));
  EXPECT_THAT(text, testing::HasSubstr("linchpin_jobs_total{kind=\"compress\",result=\"ok\"} 1"));
}

TEST(JobRun, ARefusalIsCounted) {
  FakeBackend fake;
  const auto held = JobRun::Admit(fake.backend, JobKind::kDetect);
  EXPECT_EQ(ReasonOf(JobRun::Admit(fake.backend, JobKind::kPlan).status()), Reason::kBusy);
  const std::string text = fake.metrics.Text();
  EXPECT_THAT(text, testing::HasSubstr("linchpin_jobs_total{kind=\"plan\",result=\"refused\"} 1"));
  EXPECT_THAT(text, testing::HasSubstr("linchpin_admission_rejected_total{reason=\"busy\"} 1"));
  EXPECT_THAT(text, testing::HasSubstr("linchpin_jobs_in_progress{kind=\"plan\"} 0"));
}

TEST(JobRun, ErrorsAreCountedByReason) {
  FakeBackend fake;
  auto run = *JobRun::Admit(fake.backend, JobKind::kVerify);
  const absl::Status end = run->End(Error(Reason::kPathNotAllowed, "/etc", "no"));
  EXPECT_EQ(ReasonOf(end), Reason::kPathNotAllowed);
  EXPECT_THAT(
      fake.metrics.Text(),
      testing::HasSubstr("linchpin_security_rejections_total{reason=\"path_not_allowed\"} 1"));
}

// What a caller says of itself cannot break out of the line.
TEST(JobRun, TheAuditLineIsOneObjectOfJsonWhateverTheCallerIsCalled) {
  std::ostringstream text;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "audit", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  spdlog::set_pattern("%v");
  FakeBackend fake;
  const std::string name = "certificate:a\",\"result\":\"ok\"\n{\xff";
  auto run = *JobRun::Admit(fake.backend, JobKind::kVerify,
                            {.caller = {.identity = name}, .trace = "0af7651916cd43dd"});
  run->End(Error(Reason::kPathNotAllowed, "/secret", "no")).IgnoreError();
  spdlog::set_default_logger(before);
  const std::string line = text.str();
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_EQ(line.find("secret"), std::string::npos);
  const Json audit = Json::parse(line);
  EXPECT_EQ(audit["job"], "verify");
  EXPECT_EQ(audit["result"], "failed");
  EXPECT_EQ(audit["reason"], "PATH_NOT_ALLOWED");
  EXPECT_EQ(audit["trace"], "0af7651916cd43dd");
  EXPECT_THAT(audit["caller"].get<std::string>(), testing::StartsWith("certificate:a\",\""));
}

TEST(JobRun, OneThatNobodyEndedCountsAsCancelled) {
  FakeBackend fake;
  JobRun::Admit(fake.backend, JobKind::kDetect)->reset();
  EXPECT_EQ(fake.jobs.jobs(), 0);
  EXPECT_THAT(fake.metrics.Text(),
              testing::HasSubstr("linchpin_jobs_total{kind=\"detect\",result=\"cancelled\"} 1"));
}

TEST(JobRun, KeepsTheLatestProgressOnly) {
  FakeBackend fake;
  auto run = *JobRun::Admit(fake.backend, JobKind::kDetect);
  EXPECT_EQ(run->TakeProgress(), std::nullopt);
  RunContext context = run->Context();
  EXPECT_EQ(context.threads, 3);
  context.Report({Stage::kForward, "layer 1", 1, 3});
  context.Report({Stage::kForward, "layer 2", 2, 3});
  const auto progress = run->TakeProgress();
  ASSERT_TRUE(progress.has_value());
  EXPECT_EQ(progress->item, "layer 2");
  EXPECT_EQ(run->TakeProgress(), std::nullopt);
}

TEST(JobRun, PassesStagesAndTensorsOn) {
  FakeBackend fake;
  auto run = *JobRun::Admit(fake.backend, JobKind::kCompress);
  run->OnStageDone(Stage::kQuantize, 1.5, 10, 4);
  run->OnTensor(TensorAction::kCopied);
  const std::string text = fake.metrics.Text();
  EXPECT_THAT(text, testing::HasSubstr(
                        "linchpin_stage_bytes_total{direction=\"read\",stage=\"quantize\"} 10"));
  EXPECT_THAT(text, testing::HasSubstr("linchpin_tensors_total{action=\"copied\"} 1"));
}

TEST(JobRun, StopsWhenAsked) {
  FakeBackend fake;
  auto run = *JobRun::Admit(fake.backend, JobKind::kDetect);
  EXPECT_TRUE(run->Context().Check().ok());
  EXPECT_EQ(ReasonOf(run->storage().Open("/x").status()), Reason::kSourceNotFound);
  run->RequestStop();
  EXPECT_EQ(ReasonOf(run->Context().Check()), Reason::kCancelled);
  EXPECT_EQ(ReasonOf(run->storage().Open("/x").status()), Reason::kCancelled)
      << "the store begins nothing any more";
}

}  // namespace
}  // namespace linchpin
