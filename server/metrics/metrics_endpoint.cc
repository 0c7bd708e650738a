#include "metrics/metrics_endpoint.h"

#include <exception>
#include <string>
#include <utility>

#include "metrics/process_collector.h"
#include "metrics/series.h"
#include "prometheus/exposer.h"

namespace linchpin {

MetricsEndpoint::MetricsEndpoint(std::shared_ptr<Collectables> collectables,
                                 std::unique_ptr<prometheus::Exposer> exposer)
    : collectables_(std::move(collectables)), exposer_(std::move(exposer)) {}

MetricsEndpoint::~MetricsEndpoint() = default;

struct MetricsEndpoint::Collectables {
  std::shared_ptr<prometheus::Registry> registry;
  std::shared_ptr<ProcessCollector> process = std::make_shared<ProcessCollector>();
};

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Create(const std::string& address,
                                                                         const Metrics& metrics) {
  auto collectables = std::make_shared<Collectables>();
  collectables->registry = metrics.series_->registry;
  // The library says with an exception that it cannot listen.
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(address, /*num_threads=*/2);
    exposer->RegisterCollectable(collectables->registry);
    exposer->RegisterCollectable(collectables->process);
    return std::unique_ptr<MetricsEndpoint>(
        new MetricsEndpoint(std::move(collectables), std::move(exposer)));
  } catch (const std::exception&) {
    return Error(Reason::kOptionInvalid, "--metrics " + address,
                 "cannot listen there: it is in use, not an address of this machine, or not "
                 "allowed",
                 "choose another ADDRESS:PORT, or --metrics off");
  }
}

}  // namespace linchpin
