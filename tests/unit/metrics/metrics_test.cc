#include "metrics/metrics.h"

#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <optional>
#include <regex>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

// The value of the one series with this name and all of these labels.
std::optional<double> Value(const std::string& text, const std::string& name,
                            const std::vector<std::string>& labels = {}) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + "{") && !line.starts_with(name + " ")) continue;
    bool all = true;
    for (const std::string& label : labels) all &= line.find(label) != std::string::npos;
    if (all) return std::strtod(line.c_str() + line.rfind(' '), nullptr);
  }
  return std::nullopt;
}

class MetricsTest : public testing::Test {
 protected:
  double Get(const std::string& name, const std::vector<std::string>& labels = {}) {
    const std::string text = metrics_.Text();
    const auto value = Value(text, name, labels);
    EXPECT_TRUE(value.has_value()) << name << " in\n" << text;
    return value.value_or(-1);
  }

  Metrics metrics_{{.version = "1.2.3", .libtorch = "9.9"},
                   {{"linchpin.v1.CompressionService", "CompressModel", "server_stream"}}};
};

TEST_F(MetricsTest, CountsRequestsToStoresByClassOfStatus) {
  const std::string name = "linchpin_upstream_requests_total";
  for (const char* scheme : {"s3", "gs", "https", "hf"}) {
    for (const char* code : {"2xx", "3xx", "4xx", "5xx", "error"}) {
      EXPECT_EQ(Get(name, {scheme, code}), 0);
    }
  }
  for (const int status : {200, 206, 301, 404, 503, 0, 99, 700}) {
    metrics_.UpstreamRequest("s3", status);
  }
  metrics_.UpstreamRequest("ftp", 200);
  EXPECT_EQ(Get(name, {"\"s3\"", "2xx"}), 2);
  EXPECT_EQ(Get(name, {"\"s3\"", "3xx"}), 1);
  EXPECT_EQ(Get(name, {"\"s3\"", "4xx"}), 1);
  EXPECT_EQ(Get(name, {"\"s3\"", "5xx"}), 1);
  EXPECT_EQ(Get(name, {"\"s3\"", "error"}), 3);
  EXPECT_EQ(metrics_.Text().find("ftp"), std::string::npos);
}

TEST_F(MetricsTest, EverySeriesStandsAtZeroFromTheStart) {
  for (int kind = 0; kind < kJobKindCount; ++kind) {
    const std::string label = "kind=\"" + std::string(NameOf(static_cast<JobKind>(kind))) + "\"";
    EXPECT_EQ(Get("linchpin_jobs_in_progress", {label}), 0);
    for (const char* result : {"ok", "failed", "cancelled", "refused"}) {
      EXPECT_EQ(Get("linchpin_jobs_total", {label, result}), 0);
    }
  }
  for (const char* stage : {"checkpoint", "forward", "detect", "quantize", "artifact"}) {
    EXPECT_EQ(Get("linchpin_stage_seconds_count", {stage}), 0);
    EXPECT_EQ(Get("linchpin_stage_bytes_total", {stage, "read"}), 0);
    EXPECT_EQ(Get("linchpin_stage_bytes_total", {stage, "written"}), 0);
  }
  for (const char* action : {"quantized", "preserved", "copied", "equalized"}) {
    EXPECT_EQ(Get("linchpin_tensors_total", {action}), 0);
  }
  for (const char* reason : {"busy", "draining", "exceeds_server_limit"}) {
    EXPECT_EQ(Get("linchpin_admission_rejected_total", {reason}), 0);
  }
  for (const char* kind : {"digest_mismatch", "source_changed", "verify_mismatch"}) {
    EXPECT_EQ(Get("linchpin_integrity_failures_total", {kind}), 0);
  }
  for (const char* reason :
       {"path_not_allowed", "format_refused", "unauthenticated", "policy_refused"}) {
    EXPECT_EQ(Get("linchpin_security_rejections_total", {reason}), 0);
  }
  for (const char* name :
       {"linchpin_super_weights_detected_total", "linchpin_compression_ratio_count",
        "linchpin_admission_reserved_bytes", "linchpin_admission_limit_bytes",
        "linchpin_last_success_timestamp_seconds", "linchpin_draining"}) {
    EXPECT_EQ(Get(name), 0) << name;
  }
  EXPECT_EQ(Get("grpc_server_started_total", {"CompressModel"}), 0);
  for (const std::string_view code : GrpcCodeNames()) {
    EXPECT_EQ(Get("grpc_server_handled_total", {"grpc_code=\"" + std::string(code) + "\""}), 0);
  }
}

TEST_F(MetricsTest, SaysWhatRuns) {
  EXPECT_EQ(Get("linchpin_build_info", {"version=\"1.2.3\"", "libtorch=\"9.9\""}), 1);
}

TEST(Metrics, SaysWhetherAForwardPassCanBeRun) {
  constexpr char kName[] = "\nlinchpin_forward_pass_available ";
  const Metrics with({"1.2.3", "9.9"}, {});
  EXPECT_THAT(with.Text(), testing::HasSubstr(std::string(kName) + "1\n"));
  const Metrics without({"1.2.3", ""}, {});
  EXPECT_THAT(without.Text(), testing::HasSubstr(std::string(kName) + "0\n"));
}

TEST_F(MetricsTest, CountsJobs) {
  metrics_.JobStarted(JobKind::kCompress);
  metrics_.JobStarted(JobKind::kCompress);
  EXPECT_EQ(Get("linchpin_jobs_in_progress", {"\"compress\""}), 2);
  metrics_.JobFinished(JobKind::kCompress, JobResult::kFailed);
  EXPECT_EQ(Get("linchpin_jobs_in_progress", {"\"compress\""}), 1);
  EXPECT_EQ(Get("linchpin_jobs_total", {"\"compress\"", "failed"}), 1);
  EXPECT_EQ(Get("linchpin_last_success_timestamp_seconds"), 0);
  metrics_.JobFinished(JobKind::kCompress, JobResult::kOk);
  EXPECT_EQ(Get("linchpin_jobs_total", {"\"compress\"", "\"ok\""}), 1);
  EXPECT_NEAR(Get("linchpin_last_success_timestamp_seconds"), static_cast<double>(time(nullptr)),
              60);
  metrics_.JobRefused(JobKind::kPlan);
  EXPECT_EQ(Get("linchpin_jobs_total", {"\"plan\"", "refused"}), 1);
  EXPECT_EQ(Get("linchpin_jobs_in_progress", {"\"plan\""}), 0);
}

TEST_F(MetricsTest, CountsStagesTensorsAndResults) {
  metrics_.StageDone(Stage::kQuantize, 2.5, 1000, 300);
  metrics_.StageDone(Stage::kQuantize, 0.5, 1, 2);
  EXPECT_EQ(Get("linchpin_stage_seconds_sum", {"quantize"}), 3);
  EXPECT_EQ(Get("linchpin_stage_seconds_count", {"quantize"}), 2);
  EXPECT_EQ(Get("linchpin_stage_bytes_total", {"quantize", "read"}), 1001);
  EXPECT_EQ(Get("linchpin_stage_bytes_total", {"quantize", "written"}), 302);
  metrics_.TensorDone(TensorAction::kPreserved);
  EXPECT_EQ(Get("linchpin_tensors_total", {"preserved"}), 1);
  metrics_.SuperWeightsDetected(2);
  EXPECT_EQ(Get("linchpin_super_weights_detected_total"), 2);
  metrics_.Compressed(300, 100);
  metrics_.Compressed(300, 0);
  EXPECT_EQ(Get("linchpin_compression_ratio_sum"), 3);
  EXPECT_EQ(Get("linchpin_compression_ratio_count"), 1);
}

TEST_F(MetricsTest, CountsReasonsThatMatterAndNoOther) {
  for (const ReasonInfo& info : AllReasons()) metrics_.CountReason(info.reason);
  for (const CountedReason& counted : CountedReasons()) {
    const std::string family =
        counted.group == ReasonGroup::kAdmission   ? "linchpin_admission_rejected_total"
        : counted.group == ReasonGroup::kIntegrity ? "linchpin_integrity_failures_total"
                                                   : "linchpin_security_rejections_total";
    EXPECT_EQ(Get(family, {std::string(counted.label)}), 1) << counted.label;
  }
}

TEST_F(MetricsTest, ShowsAdmissionAndDraining) {
  metrics_.SetAdmissionLimit(uint64_t{8} << 30);
  metrics_.SetAdmissionReserved(12345);
  metrics_.SetDraining(true);
  EXPECT_EQ(Get("linchpin_admission_limit_bytes"), static_cast<double>(uint64_t{8} << 30));
  EXPECT_EQ(Get("linchpin_admission_reserved_bytes"), 12345);
  EXPECT_EQ(Get("linchpin_draining"), 1);
}

TEST_F(MetricsTest, CountsRpcs) {
  const char* path = "/linchpin.v1.CompressionService/CompressModel";
  metrics_.RpcStarted(path);
  metrics_.RpcHandled(path, 8, 0.25);
  metrics_.RpcHandled(path, 99, 0.25);  // no such code
  metrics_.RpcStarted("/made.up/Method");
  metrics_.RpcHandled("/made.up/Method", 0, 1);
  const std::vector<std::string> labels = {"grpc_service=\"linchpin.v1.CompressionService\"",
                                           "grpc_method=\"CompressModel\"",
                                           "grpc_type=\"server_stream\""};
  EXPECT_EQ(Get("grpc_server_started_total", labels), 1);
  EXPECT_EQ(Get("grpc_server_handling_seconds_sum", labels), 0.5);
  EXPECT_EQ(Get("grpc_server_handled_total", {"ResourceExhausted"}), 1);
  EXPECT_EQ(Get("grpc_server_handled_total", {"Unknown"}), 1);
  EXPECT_THAT(metrics_.Text(), testing::Not(testing::HasSubstr("made.up")));
}

TEST_F(MetricsTest, ShowsTheProcess) {
  EXPECT_GT(Get("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(Get("process_virtual_memory_bytes"), 1e6);
  EXPECT_GE(Get("process_cpu_seconds_total"), 0);
  EXPECT_NEAR(Get("process_start_time_seconds"), static_cast<double>(time(nullptr)), 600);
  EXPECT_GT(Get("process_max_fds"), 10);
  const double before = Get("process_open_fds");
  const int copy = dup(0);
  EXPECT_EQ(Get("process_open_fds"), before + 1);
  close(copy);
}

TEST_F(MetricsTest, EveryMetricHasHelpAndAType) {
  const std::string text = metrics_.Text();
  std::istringstream lines(text);
  int helped = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# HELP ")) continue;
    ++helped;
    EXPECT_TRUE(std::regex_search(line, std::regex("^# HELP [a-z_]+ .{10,}$"))) << line;
  }
  EXPECT_GE(helped, 20);
}

}  // namespace
}  // namespace linchpin
