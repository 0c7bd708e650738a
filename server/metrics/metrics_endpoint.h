// Serves the metrics over HTTP at /metrics.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "metrics/metrics.h"

namespace prometheus {
class Exposer;
}  // namespace prometheus

namespace linchpin {

class MetricsEndpoint {
 public:
  // Listens on `address`, "127.0.0.1:9464" or "[::]:9464".  OPTION_INVALID if
  // that is no address or cannot be listened on, e.g. because it is in use.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Create(const std::string& address,
                                                                 const Metrics& metrics);
  ~MetricsEndpoint();

 private:
  struct Collectables;  // what the exposer reads; it keeps weak pointers only
  MetricsEndpoint(std::shared_ptr<Collectables> collectables,
                  std::unique_ptr<prometheus::Exposer> exposer);

  std::shared_ptr<Collectables> collectables_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace linchpin
