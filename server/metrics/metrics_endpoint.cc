#include "metrics/metrics_endpoint.h"

#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "metrics/process_collector.h"
#include "metrics/series.h"
#include "prometheus/text_serializer.h"

namespace linchpin {

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Create(const std::string& address,
                                                                         const Metrics& metrics) {
  const auto page = [registry = metrics.series_->registry] {
    std::vector<prometheus::MetricFamily> families = registry->Collect();
    std::vector<prometheus::MetricFamily> process = ProcessCollector().Collect();
    std::move(process.begin(), process.end(), std::back_inserter(families));
    return prometheus::TextSerializer().Serialize(families);
  };
  ASSIGN_OR_RETURN(auto listener, HttpListener::Start(address, "/metrics", page));
  return std::unique_ptr<MetricsEndpoint>(new MetricsEndpoint(std::move(listener)));
}

}  // namespace linchpin
