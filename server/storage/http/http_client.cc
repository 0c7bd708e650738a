#include "storage/http/http_client.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr int kMaxRedirects = 3;
constexpr uint64_t kProgressBytes = 64 << 10;

bool IsRedirect(int status) {
  constexpr int kRedirects[] = {301, 302, 303, 307, 308};
  return std::find(std::begin(kRedirects), std::end(kRedirects), status) != std::end(kRedirects);
}

// False if a stop came first.
bool Pause(std::chrono::milliseconds pause, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any condition;
  std::unique_lock lock(mutex);
  condition.wait_for(lock, stop, pause, [] { return false; });
  return !stop.stop_requested();
}

absl::Status Stopped(const HttpRequest& request) {
  return Error(Reason::kCancelled, request.what, "stopped as asked");
}

// The request to where `response` leads.
absl::StatusOr<HttpRequest> Redirected(const HttpRequest& request, const HttpResponse& response) {
  ASSIGN_OR_RETURN(const Uri target, ResolveReference(request.url, response.Header("location")));
  if (target.scheme != request.url.scheme && target.scheme != "https") {
    return Error(Reason::kPathNotAllowed, request.what, "its server redirects from https to http");
  }
  RETURN_IF_ERROR(request.check_redirect(target));
  HttpRequest next = request;
  next.url = target;
  if (target.Origin() != request.url.Origin()) {
    next.authorize = nullptr;  // for good, wherever the next one leads
    next.any_address = false;
  }
  return next;
}

}  // namespace

HttpClient HttpClient::Until(std::stop_token stop) const {
  HttpClient client = *this;
  client.stop_ = std::move(stop);
  return client;
}

HttpClient HttpClient::WithAttempts(int attempts) const {
  HttpClient client = *this;
  client.retry_.attempts = attempts;
  return client;
}

HttpExchange HttpClient::Attempt(const HttpRequest& original, const BodySink& sink) const {
  HttpRequest request = original;
  for (int redirects = 0;; ++redirects) {
    HttpRequest authorized = request;
    if (request.authorize) {
      if (absl::Status status = request.authorize(authorized); !status.ok()) {
        return {.status = std::move(status)};
      }
    }
    HttpExchange exchange = transport_->Exchange(authorized, sink, stop_);
    if (!exchange.status.ok() || !IsRedirect(exchange.response.status) || !request.check_redirect) {
      return exchange;
    }
    absl::StatusOr<HttpRequest> next = Redirected(request, exchange.response);
    if (next.ok() && redirects == kMaxRedirects) {
      next = Error(Reason::kStorageFailed, request.what,
                   fmt::format("its server redirects more than {} times", kMaxRedirects));
    }
    if (!next.ok()) return {.status = next.status()};
    request = *std::move(next);
  }
}

absl::StatusOr<HttpResponse> HttpClient::Send(const MakeRequest& make, const BodySink& sink) const {
  Backoff backoff(retry_);
  while (true) {
    const HttpRequest request = make();
    if (stop_.stop_requested()) return Stopped(request);
    HttpExchange exchange = Attempt(request, sink);
    const bool answered = exchange.status.ok();
    if (answered ? !IsTransientStatus(exchange.response.status) : !exchange.transient) {
      if (!answered) return exchange.status;
      return std::move(exchange.response);
    }
    if (exchange.received >= kProgressBytes) backoff.Reset();
    const std::string wanted(answered ? exchange.response.Header("retry-after") : "");
    const auto pause = backoff.Next(ParseRetryAfter(wanted));
    if (!pause) return answered ? ErrorOf(request, exchange.response) : exchange.status;
    if (!Pause(*pause, stop_)) return Stopped(request);
  }
}

absl::StatusOr<HttpResponse> HttpClient::Send(const HttpRequest& request) const {
  return Send([&request] { return request; });
}

absl::Status ErrorOf(const HttpRequest& request, const HttpResponse& response,
                     std::string_view detail) {
  const std::string answer =
      fmt::format("its server answers {}{}{}", response.status, detail.empty() ? "" : " ", detail);
  switch (response.status) {
    case 404:
    case 410:
      return Error(Reason::kSourceNotFound, request.what, "no such file or directory",
                   "check the URI");
    case 401:
    case 403:
      return Error(Reason::kPathNotAllowed, request.what, answer,
                   "check the credentials that this server runs with");
    case 412:
    case 416:
      return Error(Reason::kSourceChanged, request.what, "the file was changed while it was read",
                   "run again when it no longer changes");
    default:
      return Error(Reason::kStorageFailed, request.what, answer, "try again later");
  }
}

}  // namespace linchpin
