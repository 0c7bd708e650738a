#include "metrics/push.h"

#include <unistd.h>

#include <climits>

#include "base/status.h"
#include "fmt/format.h"
#include "metrics/series.h"
#include "prometheus/gateway.h"

namespace linchpin {
namespace {

constexpr char kJob[] = "linchpin";

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

// "http://host:9091" as scheme with host, and port.
struct Address {
  std::string host;
  std::string port;
};

absl::StatusOr<Address> ParseUrl(const std::string& url) {
  for (const std::string scheme : {"http://", "https://"}) {
    if (!url.starts_with(scheme)) continue;
    std::string rest = url.substr(scheme.size());
    while (rest.ends_with('/')) rest.pop_back();
    const size_t colon = rest.rfind(':');
    const bool has_port = colon != std::string::npos && rest.find(']', colon) == std::string::npos;
    const std::string port =
        has_port ? rest.substr(colon + 1) : std::string(scheme == "http://" ? "80" : "443");
    const std::string host = has_port ? rest.substr(0, colon) : rest;
    const bool sound = !host.empty() && host.find_first_of("/@?# ") == std::string::npos &&
                       !port.empty() && port.find_first_not_of("0123456789") == std::string::npos;
    if (sound) return Address{scheme + host, port};
  }
  return Error(Reason::kOptionInvalid, "--push-metrics " + url, "it is no address of a Pushgateway",
               "give http://HOST:PORT");
}

}  // namespace

struct MetricsPush::Gateway {
  Gateway(const Address& to, std::shared_ptr<prometheus::Registry> from)
      : registry(std::move(from)),
        client(to.host, to.port, kJob, prometheus::Gateway::GetInstanceLabel(HostName())) {
    client.RegisterCollectable(registry);
  }

  const std::shared_ptr<prometheus::Registry> registry;
  prometheus::Gateway client;
};

MetricsPush::MetricsPush(std::unique_ptr<Gateway> gateway) : gateway_(std::move(gateway)) {}
MetricsPush::~MetricsPush() = default;

absl::StatusOr<std::unique_ptr<MetricsPush>> MetricsPush::Create(const std::string& url,
                                                                 const Metrics& metrics) {
  ASSIGN_OR_RETURN(const Address address, ParseUrl(url));
  return std::unique_ptr<MetricsPush>(
      new MetricsPush(std::make_unique<Gateway>(address, metrics.series_->registry)));
}

absl::Status MetricsPush::Push() {
  const int code = gateway_->client.Push();
  if (code >= 200 && code < 300) return absl::OkStatus();
  return Error(Reason::kStorageFailed, "Pushgateway",
               code > 0 ? fmt::format("it answers {}", code) : "it does not answer",
               "see whether it listens there");
}

}  // namespace linchpin
