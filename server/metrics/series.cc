#include "metrics/series.h"

#include "fmt/format.h"

namespace linchpin {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Registry;

Family<Counter>& Counters(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

Family<Gauge>& Gauges(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

Family<Histogram>& Histograms(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

const Histogram::BucketBoundaries kStageBuckets{0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000};
const Histogram::BucketBoundaries kRatioBuckets{1, 1.5, 2, 2.5, 3, 3.25, 3.5, 3.75, 4, 6, 8};
const Histogram::BucketBoundaries kRpcBuckets{0.005, 0.025, 0.1, 0.5, 1,    2.5,
                                              10,    30,    60,  300, 1000, 3600};

std::string Label(std::string_view text) { return std::string(text); }

}  // namespace

Metrics::Series::Series(const Build& build, const std::vector<RpcMethod>& methods) {
  AddJobs();
  AddStages();
  AddReasons();
  AddUpstream();
  AddServer(build);
  AddRpcs(methods);
}

void Metrics::Series::AddJobs() {
  auto& total = Counters(*registry, "linchpin_jobs_total", "Jobs that ended, by kind and result");
  auto& in_progress = Gauges(*registry, "linchpin_jobs_in_progress", "Jobs that run now");
  for (int kind = 0; kind < kJobKindCount; ++kind) {
    const std::string name = Label(NameOf(static_cast<JobKind>(kind)));
    jobs_in_progress[kind] = &in_progress.Add({{"kind", name}});
    for (int result = 0; result < kJobResultCount; ++result) {
      jobs[kind][result] =
          &total.Add({{"kind", name}, {"result", Label(NameOf(static_cast<JobResult>(result)))}});
    }
  }
  super_weights = &Counters(*registry, "linchpin_super_weights_detected_total",
                            "Super weights found by detections")
                       .Add({});
  compression_ratio = &Histograms(*registry, "linchpin_compression_ratio",
                                  "Bytes of a source's tensors over those of its output")
                           .Add({}, kRatioBuckets);
  last_success = &Gauges(*registry, "linchpin_last_success_timestamp_seconds",
                         "When a job last succeeded, seconds since 1970; 0 if none has")
                      .Add({});
}

void Metrics::Series::AddStages() {
  auto& seconds =
      Histograms(*registry, "linchpin_stage_seconds", "Wall time of one stage of a job");
  auto& bytes = Counters(*registry, "linchpin_stage_bytes_total",
                         "Bytes that a stage read from sources and wrote to outputs");
  for (int stage = 0; stage < kStageCount; ++stage) {
    const std::string name = Label(StageName(static_cast<Stage>(stage)));
    stage_seconds[stage] = &seconds.Add({{"stage", name}}, kStageBuckets);
    stage_read[stage] = &bytes.Add({{"stage", name}, {"direction", "read"}});
    stage_written[stage] = &bytes.Add({{"stage", name}, {"direction", "written"}});
  }
  auto& actions = Counters(*registry, "linchpin_tensors_total", "What became of tensors");
  for (int action = 0; action < kTensorActionCount; ++action) {
    tensors[action] =
        &actions.Add({{"action", Label(TensorActionName(static_cast<TensorAction>(action)))}});
  }
}

void Metrics::Series::AddReasons() {
  Family<Counter>* const families[kReasonGroupCount] = {
      &Counters(*registry, "linchpin_admission_rejected_total",
                "Jobs that were refused for want of room, or while draining"),
      &Counters(*registry, "linchpin_integrity_failures_total",
                "Bytes that were not what they had to be"),
      &Counters(*registry, "linchpin_security_rejections_total",
                "Calls that asked for what is not allowed"),
  };
  constexpr const char* kLabels[kReasonGroupCount] = {"reason", "kind", "reason"};
  for (const CountedReason& counted : CountedReasons()) {
    const int group = static_cast<int>(counted.group);
    reasons[counted.reason] =
        &families[group]->Add({{std::string(kLabels[group]), Label(counted.label)}});
  }
}

void Metrics::Series::AddUpstream() {
  auto& requests = Counters(*registry, "linchpin_upstream_requests_total",
                            "Requests to stores, each attempt, by scheme and class of status");
  for (const std::string_view scheme : UpstreamSchemes()) {
    for (const std::string_view code_class : CodeClasses()) {
      upstream[scheme].push_back(
          &requests.Add({{"scheme", Label(scheme)}, {"code_class", Label(code_class)}}));
    }
  }
}

void Metrics::Series::AddServer(const Build& build) {
  admission_reserved = &Gauges(*registry, "linchpin_admission_reserved_bytes",
                               "Memory that running jobs have reserved")
                            .Add({});
  admission_limit =
      &Gauges(*registry, "linchpin_admission_limit_bytes", "Memory that jobs may reserve").Add({});
  scratch_reserved = &Gauges(*registry, "linchpin_scratch_reserved_bytes",
                             "Room in the scratch directory that running jobs have reserved")
                          .Add({});
  scratch_limit = &Gauges(*registry, "linchpin_scratch_limit_bytes",
                          "Room in the scratch directory that jobs may reserve")
                       .Add({});
  draining =
      &Gauges(*registry, "linchpin_draining", "1 while the server goes down, else 0").Add({});
  Gauges(*registry, "linchpin_build_info", "Always 1; its labels say what runs")
      .Add({{"version", build.version}, {"libtorch", build.libtorch}})
      .Set(1);
  Gauges(*registry, "linchpin_forward_pass_available",
         "1 if models can be run, for which LibTorch must be there, else 0")
      .Add({})
      .Set(build.libtorch.empty() ? 0 : 1);
}

void Metrics::Series::AddRpcs(const std::vector<RpcMethod>& methods) {
  auto& started = Counters(*registry, "grpc_server_started_total", "RPCs started on the server");
  auto& handled = Counters(*registry, "grpc_server_handled_total",
                           "RPCs completed on the server, by status code");
  auto& seconds = Histograms(*registry, "grpc_server_handling_seconds",
                             "Time from an RPC's start to its status");
  for (const RpcMethod& method : methods) {
    const prometheus::Labels labels{{"grpc_type", method.type},
                                    {"grpc_service", method.service},
                                    {"grpc_method", method.method}};
    Rpc& rpc = rpcs[fmt::format("/{}/{}", method.service, method.method)];
    rpc.started = &started.Add(labels);
    rpc.seconds = &seconds.Add(labels, kRpcBuckets);
    for (const std::string_view code : GrpcCodeNames()) {
      prometheus::Labels with_code = labels;
      with_code["grpc_code"] = Label(code);
      rpc.handled.push_back(&handled.Add(with_code));
    }
  }
}

}  // namespace linchpin
