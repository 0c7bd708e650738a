#include "metrics/metrics.h"

#include <chrono>
#include <utility>

#include "metrics/process_collector.h"
#include "metrics/series.h"
#include "prometheus/text_serializer.h"

namespace linchpin {

Metrics::Metrics(const Build& build, const std::vector<RpcMethod>& methods)
    : series_(std::make_unique<Series>(build, methods)) {}

Metrics::~Metrics() = default;

void Metrics::JobStarted(JobKind kind) {
  series_->jobs_in_progress[static_cast<int>(kind)]->Increment();
}

void Metrics::JobFinished(JobKind kind, JobResult result) {
  series_->jobs_in_progress[static_cast<int>(kind)]->Decrement();
  series_->jobs[static_cast<int>(kind)][static_cast<int>(result)]->Increment();
  if (result != JobResult::kOk) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  series_->last_success->Set(std::chrono::duration<double>(now).count());
}

void Metrics::JobRefused(JobKind kind) {
  series_->jobs[static_cast<int>(kind)][static_cast<int>(JobResult::kRefused)]->Increment();
}

void Metrics::CountReason(Reason reason) {
  const auto found = series_->reasons.find(reason);
  if (found != series_->reasons.end()) found->second->Increment();
}

void Metrics::StageDone(Stage stage, double seconds, uint64_t read, uint64_t written) {
  const int index = static_cast<int>(stage);
  series_->stage_seconds[index]->Observe(seconds);
  series_->stage_read[index]->Increment(static_cast<double>(read));
  series_->stage_written[index]->Increment(static_cast<double>(written));
}

void Metrics::TensorDone(TensorAction action) {
  series_->tensors[static_cast<int>(action)]->Increment();
}

void Metrics::SuperWeightsDetected(int64_t count) {
  series_->super_weights->Increment(static_cast<double>(count));
}

void Metrics::Compressed(uint64_t bytes_in, uint64_t bytes_out) {
  if (bytes_out == 0) return;
  series_->compression_ratio->Observe(static_cast<double>(bytes_in) /
                                      static_cast<double>(bytes_out));
}

void Metrics::UpstreamRequest(std::string_view scheme, int http_status) {
  const auto found = series_->upstream.find(scheme);
  if (found == series_->upstream.end()) return;
  found->second[CodeClassOf(http_status)]->Increment();
}

void Metrics::SetAdmissionReserved(uint64_t bytes) {
  series_->admission_reserved->Set(static_cast<double>(bytes));
}

void Metrics::SetAdmissionLimit(uint64_t bytes) {
  series_->admission_limit->Set(static_cast<double>(bytes));
}

void Metrics::SetScratchReserved(uint64_t bytes) {
  series_->scratch_reserved->Set(static_cast<double>(bytes));
}

void Metrics::SetScratchLimit(uint64_t bytes) {
  series_->scratch_limit->Set(static_cast<double>(bytes));
}

void Metrics::SetDraining(bool draining) { series_->draining->Set(draining ? 1 : 0); }

void Metrics::RpcStarted(std::string_view path) {
  const auto found = series_->rpcs.find(path);
  if (found != series_->rpcs.end()) found->second.started->Increment();
}

void Metrics::RpcHandled(std::string_view path, int code, double seconds) {
  const auto found = series_->rpcs.find(path);
  if (found == series_->rpcs.end()) return;
  constexpr int kUnknown = 2;
  const bool known = code >= 0 && code < static_cast<int>(GrpcCodeNames().size());
  found->second.handled[known ? code : kUnknown]->Increment();
  found->second.seconds->Observe(seconds);
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families = series_->registry->Collect();
  for (prometheus::MetricFamily& family : ProcessCollector().Collect()) {
    families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace linchpin
