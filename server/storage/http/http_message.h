// A request as storage makes it and the response to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "storage/uri.h"

namespace linchpin {

struct HttpRequest {
  std::string method = "GET";
  Uri url;  // http or https
  std::vector<std::pair<std::string, std::string>> headers;
  absl::Span<const std::byte> body;  // must outlive the call

  std::string what;             // the URI that errors name
  std::string_view store;       // the scheme that the attempt is counted under; a literal
  uint64_t max_body = 1 << 20;  // bytes of a response that no sink takes

  // Adds credentials, before every attempt.  Never called for another origin
  // than the one the request was made for.
  std::function<absl::Status(HttpRequest&)> authorize;
  // Where a redirect may lead; without it none is followed.
  std::function<absl::Status(const Uri&)> check_redirect;
  // The host is one that the operator named, whatever its address.
  bool any_address = false;
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string, std::less<>> headers;  // names in lower case
  std::string body;                                         // of a response that no sink took

  // The value, or nothing.
  std::string_view Header(std::string_view name) const {
    const auto header = headers.find(name);
    return header == headers.end() ? std::string_view() : header->second;
  }
  bool ok() const { return status >= 200 && status < 300; }
};

// Takes the body of a 2xx response as it comes; an error ends the exchange.
using BodySink =
    std::function<absl::Status(const HttpResponse& head, absl::Span<const std::byte> bytes)>;

}  // namespace linchpin
