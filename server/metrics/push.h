// Sends the metrics of a process that ends to a Prometheus Pushgateway: what
// nobody is there to scrape.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "metrics/metrics.h"

namespace linchpin {

// Where to: "http://HOST:PORT", or with https and without a port.
class MetricsPush {
 public:
  // OPTION_INVALID for anything else.
  static absl::StatusOr<std::unique_ptr<MetricsPush>> Create(const std::string& url,
                                                             const Metrics& metrics);
  ~MetricsPush();
  MetricsPush(const MetricsPush&) = delete;
  MetricsPush& operator=(const MetricsPush&) = delete;

  // Replaces what the gateway has of job "linchpin" on this host.
  // STORAGE_FAILED where it does not take it.
  absl::Status Push();

 private:
  struct Gateway;
  explicit MetricsPush(std::unique_ptr<Gateway> gateway);

  std::unique_ptr<Gateway> gateway_;
};

}  // namespace linchpin
