// Serves the metrics over HTTP at /metrics.
//
// Not by prometheus-cpp's own exposer: its web server gives its threads 100 kB
// of stack, less than the thread-local data of LibTorch's many libraries where a
// program links them, and takes two seconds to end (ADR 6).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "metrics/http_listener.h"
#include "metrics/metrics.h"

namespace linchpin {

class MetricsEndpoint {
 public:
  // Listens on `address`, "127.0.0.1:9464" or "[::]:9464"; port 0 takes a free
  // one.  OPTION_INVALID if that is no address or cannot be listened on, e.g.
  // because it is in use.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Create(const std::string& address,
                                                                 const Metrics& metrics);

  // Where it listens, with the port it got.
  const std::string& address() const { return listener_->address(); }

 private:
  explicit MetricsEndpoint(std::unique_ptr<HttpListener> listener)
      : listener_(std::move(listener)) {}

  std::unique_ptr<HttpListener> listener_;
};

}  // namespace linchpin
