// Requests with everything that makes them safe and steady: retries with
// backoff, checked redirects, credentials that stay with their origin.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>

#include "absl/status/statusor.h"
#include "storage/http/http_message.h"
#include "storage/http/http_transport.h"

namespace linchpin {

// Thread-safe; copies share their connections.
class HttpClient {
 public:
  using MakeRequest = std::function<HttpRequest()>;

  explicit HttpClient(HttpOptions options)
      : transport_(std::make_shared<HttpTransport>(std::move(options))),
        retry_(transport_->options().retry) {}

  // The same client, whose calls end with CANCELLED once `stop` is requested.
  HttpClient Until(std::stop_token stop) const;
  // The same client, which makes at most so many attempts.
  HttpClient WithAttempts(int attempts) const;

  // Sends what `make` gives, which is asked again for every attempt, and so may
  // ask for the rest only.  Any status is a response but for those of
  // IsTransientStatus: still there after all attempts they are STORAGE_FAILED,
  // as is a network that fails as often.  An attempt that brought 64 KiB counts
  // as progress.  Redirects, at most 3: PATH_NOT_ALLOWED where one may not lead.
  absl::StatusOr<HttpResponse> Send(const MakeRequest& make, const BodySink& sink = nullptr) const;
  absl::StatusOr<HttpResponse> Send(const HttpRequest& request) const;

 private:
  HttpExchange Attempt(const HttpRequest& original, const BodySink& sink) const;

  std::shared_ptr<HttpTransport> transport_;
  std::stop_token stop_;
  RetryPolicy retry_;
};

// The error for a response that is not what was wanted: SOURCE_NOT_FOUND,
// PATH_NOT_ALLOWED (401, 403), SOURCE_CHANGED (412, 416), else STORAGE_FAILED.
// `detail` is what the body says, for programs made: "AccessDenied".
absl::Status ErrorOf(const HttpRequest& request, const HttpResponse& response,
                     std::string_view detail = {});

}  // namespace linchpin
