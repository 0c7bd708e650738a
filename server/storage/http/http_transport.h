// One HTTP exchange over libcurl: the only file that knows it.
//
// HTTP/1.1 over TCP or TLS 1.2+, no proxies, no redirects, no compression.  The
// address is checked when a socket is opened; connections are kept and used again.
// The process must ignore SIGPIPE (shutdown_signal.h): OpenSSL may raise it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "storage/http/address_rule.h"
#include "storage/http/backoff.h"
#include "storage/http/http_message.h"

namespace linchpin {

struct HttpOptions {
  AddressRule addresses;
  std::string ca_file;  // PEM; empty for the system's
  RetryPolicy retry;
  std::chrono::seconds connect_timeout{10};
  // A transfer slower than this many bytes per second for so long has failed.
  long slowest_bytes_per_second = 1024;
  std::chrono::seconds slow_for{30};
  // Hears of every attempt: the request's store and the status, 0 for none.
  std::function<void(std::string_view store, int http_status)> observer;
  // Answers in place of a name server's, "host:port:address"; for tests.
  std::vector<std::string> resolve;
};

// How one exchange went.
struct HttpExchange {
  absl::Status status;     // not OK: there was no whole response
  bool transient = false;  // trying again may help
  HttpResponse response;
  uint64_t received = 0;  // bytes that the sink took
};

// Thread-safe.
class HttpTransport {
 public:
  explicit HttpTransport(HttpOptions options);
  ~HttpTransport();
  HttpTransport(const HttpTransport&) = delete;
  HttpTransport& operator=(const HttpTransport&) = delete;

  const HttpOptions& options() const { return options_; }

  // Sends `request` once.  STORAGE_FAILED where the network or the server
  // fails, PATH_NOT_ALLOWED for an address that may not be reached, CANCELLED
  // within a fraction of a second of a stop.
  HttpExchange Exchange(const HttpRequest& request, const BodySink& sink,
                        const std::stop_token& stop);

 private:
  class Connection;
  // Those that were opened to any address are for requests that may use any.
  using Pool = std::vector<std::unique_ptr<Connection>>;
  Pool& PoolOf(const HttpRequest& request) { return request.any_address ? idle_anywhere_ : idle_; }
  std::unique_ptr<Connection> Take(Pool& pool);
  void GiveBack(std::unique_ptr<Connection> connection, Pool& pool);

  const HttpOptions options_;
  std::mutex mutex_;
  Pool idle_;           // guarded by mutex_
  Pool idle_anywhere_;  // guarded by mutex_
};

}  // namespace linchpin
