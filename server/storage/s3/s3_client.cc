#include "storage/s3/s3_client.h"

#include <curl/curl.h>

#include <algorithm>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr uint64_t kMaxAnswer = 16 << 20;
constexpr int kConflictAttempts = 4;

absl::Status Malformed(const HttpRequest& request) {
  return Error(Reason::kStorageFailed, request.what, "its store's answer is not the expected XML",
               "check that the configured endpoint is one of S3");
}

absl::Status ErrorIn(const HttpRequest& request, const HttpResponse& response) {
  if (response.status == 412) {
    return Error(Reason::kOutputExists, request.what, "already exists",
                 "choose another output or ask to overwrite");
  }
  const std::string code = ErrorCodeOf(response.body);
  if (response.status == 301 || response.status == 307 || code == "AuthorizationHeaderMalformed") {
    return Error(Reason::kStorageFailed, request.what, "its bucket is in another region",
                 "configure the region of the bucket");
  }
  return ErrorOf(request, response, code);
}

std::optional<SystemTime> HttpTime(std::string_view text) {
  const time_t time = curl_getdate(std::string(text).c_str(), nullptr);
  if (time < 0) return std::nullopt;
  return TimeOf(time);
}

absl::Span<const std::byte> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string CopySource(const Uri& from) {
  return fmt::format("/{}{}", from.authority, PercentEncode(from.path, true));
}

}  // namespace

S3Client S3Client::Until(const std::stop_token& stop) const {
  S3Client client = *this;
  client.http_ = http_.Until(stop);
  client.stop_ = stop;
  return client;
}

S3Client S3Client::ForCleaning(int attempts) const {
  S3Client client = *this;
  client.http_ = http_.Until({}).WithAttempts(attempts);
  client.stop_ = {};
  return client;
}

HttpRequest S3Client::Request(const Uri& uri, std::string method, std::string query) const {
  HttpRequest request{.method = std::move(method), .url = options_->endpoint, .what = uri.Text()};
  request.store = options_->scheme;
  request.max_body = kMaxAnswer;
  request.any_address = options_->named;
  const std::string path = PercentEncode(uri.path, true);
  // The certificate of a virtual host covers one label.
  if (options_->path_style || uri.authority.find('.') != std::string::npos) {
    request.url.path = fmt::format("/{}{}", uri.authority, path);
  } else {
    request.url.authority = fmt::format("{}.{}", uri.authority, request.url.authority);
    request.url.path = path.empty() ? "/" : path;
  }
  request.url.query = std::move(query);
  request.authorize = [credentials = credentials_, options = options_,
                       stop = stop_](HttpRequest& sent) -> absl::Status {
    ASSIGN_OR_RETURN(const AwsCredentials found, credentials->Get(stop));
    SignV4(found, options->dialect, options->region, std::chrono::system_clock::now(), sent);
    return absl::OkStatus();
  };
  return request;
}

absl::StatusOr<HttpResponse> S3Client::Send(const HttpRequest& request) const {
  absl::StatusOr<HttpResponse> response = http_.Send(request);
  // 409: another request for the same object was under way.
  for (int attempt = 1; response.ok() && response->status == 409 && attempt < kConflictAttempts;
       ++attempt) {
    response = http_.Send(request);
  }
  if (response.ok() && !response->ok()) return ErrorIn(request, *response);
  return response;
}

void S3Client::AddCondition(HttpRequest& request, bool create) const {
  const S3Dialect& dialect = options_->dialect;
  if (create) request.headers.emplace_back(dialect.create_header, dialect.create_value);
}

void S3Client::AddHeader(HttpRequest& request, std::string_view name, std::string value) const {
  request.headers.emplace_back(fmt::format("{}{}", options_->dialect.header_prefix, name),
                               std::move(value));
}

absl::StatusOr<S3Object> S3Client::Head(const Uri& uri) const {
  ASSIGN_OR_RETURN(const HttpResponse response, Send(Request(uri, "HEAD")));
  const std::string length(response.Header("content-length"));
  if (length.empty() || length.size() > 18 ||
      length.find_first_not_of("0123456789") != std::string::npos) {
    return Error(Reason::kStorageFailed, uri.Text(), "its store does not say how large it is");
  }
  S3Object object;
  object.version = {std::stoull(length), std::string(response.Header("etag")),
                    std::string(response.Header("last-modified"))};
  object.modified = HttpTime(response.Header("last-modified"));
  object.now = HttpTime(response.Header("date"));
  return object;
}

absl::StatusOr<S3Page> S3Client::List(const Uri& bucket, const std::string& prefix,
                                      const std::string& continuation) const {
  Uri top = bucket;
  top.path.clear();
  std::string query = "list-type=2&prefix=" + PercentEncode(prefix, false);
  if (!continuation.empty()) {
    query = fmt::format("continuation-token={}&{}", PercentEncode(continuation, false), query);
  }
  HttpRequest request = Request(top, "GET", std::move(query));
  request.what = bucket.Text();
  ASSIGN_OR_RETURN(const HttpResponse response, Send(request));
  auto page = ParseListing(response.body);
  if (!page) return Malformed(request);
  return *std::move(page);
}

absl::Status S3Client::Put(const Uri& uri, absl::Span<const std::byte> body, bool create) const {
  HttpRequest request = Request(uri, "PUT");
  request.body = body;
  AddCondition(request, create);
  return Send(request).status();
}

absl::Status S3Client::Delete(const Uri& uri) const {
  const absl::Status status = Send(Request(uri, "DELETE")).status();
  return ReasonOf(status) == Reason::kSourceNotFound ? absl::OkStatus() : status;
}

absl::Status S3Client::Copy(const Uri& from, uint64_t size, const Uri& to, bool create) const {
  if (size > options_->copy_bytes && options_->dialect.copies_parts) {
    return CopyInParts(from, size, to, create);
  }
  HttpRequest request = Request(to, "PUT");
  AddHeader(request, "copy-source", CopySource(from));
  AddCondition(request, create);
  ASSIGN_OR_RETURN(const HttpResponse response, Send(request));
  return ParseCopiedETag(response.body) ? absl::OkStatus() : Malformed(request);
}

absl::Status S3Client::CopyInParts(const Uri& from, uint64_t size, const Uri& to,
                                   bool create) const {
  ASSIGN_OR_RETURN(const std::string upload, StartUpload(to));
  std::vector<std::string> etags;
  absl::Status status;
  for (uint64_t begin = 0; begin < size && status.ok(); begin += options_->copy_bytes) {
    const uint64_t end = std::min(size, begin + options_->copy_bytes);
    HttpRequest request = Request(
        to, "PUT",
        fmt::format("partNumber={}&uploadId={}", etags.size() + 1, PercentEncode(upload, false)));
    AddHeader(request, "copy-source", CopySource(from));
    AddHeader(request, "copy-source-range", fmt::format("bytes={}-{}", begin, end - 1));
    const absl::StatusOr<HttpResponse> response = Send(request);
    status = response.status();
    if (!status.ok()) break;
    auto etag = ParseCopiedETag(response->body);
    if (!etag) status = Malformed(request);
    etags.push_back(etag.value_or(""));
  }
  if (status.ok()) status = CompleteUpload(to, upload, etags, create);
  if (!status.ok()) AbortUpload(to, upload).IgnoreError();
  return status;
}

absl::StatusOr<std::string> S3Client::StartUpload(const Uri& uri) const {
  const HttpRequest request = Request(uri, "POST", "uploads=");
  ASSIGN_OR_RETURN(const HttpResponse response, Send(request));
  auto upload = ParseUploadId(response.body);
  if (!upload) return Malformed(request);
  return *std::move(upload);
}

absl::StatusOr<std::string> S3Client::UploadPart(const Uri& uri, const std::string& upload,
                                                 size_t number,
                                                 absl::Span<const std::byte> body) const {
  HttpRequest request = Request(
      uri, "PUT", fmt::format("partNumber={}&uploadId={}", number, PercentEncode(upload, false)));
  request.body = body;
  ASSIGN_OR_RETURN(const HttpResponse response, Send(request));
  std::string etag(response.Header("etag"));
  if (etag.empty() || etag.find_first_of("<>&") != std::string::npos) return Malformed(request);
  return etag;
}

absl::Status S3Client::CompleteUpload(const Uri& uri, const std::string& upload,
                                      const std::vector<std::string>& etags, bool create) const {
  const std::string xml = CompletionXml(etags);
  HttpRequest request = Request(uri, "POST", "uploadId=" + PercentEncode(upload, false));
  request.headers.emplace_back("Content-Type", "application/xml");
  request.body = BytesOf(xml);
  AddCondition(request, create);
  absl::StatusOr<HttpResponse> response = Send(request);
  for (int attempt = 1; response.ok() && !IsCompletion(response->body); ++attempt) {
    const std::string code = ErrorCodeOf(response->body);
    if (code != "InternalError" && code != "SlowDown" && code != "ServiceUnavailable") {
      return code.empty()
                 ? Malformed(request)
                 : Error(Reason::kStorageFailed, request.what,
                         fmt::format("its store could not put the parts together: {}", code),
                         "try again later");
    }
    if (attempt == kConflictAttempts) {
      return Error(Reason::kStorageFailed, request.what,
                   fmt::format("its store could not put the parts together: {}", code),
                   "try again later");
    }
    response = Send(request);
  }
  return response.status();
}

absl::Status S3Client::AbortUpload(const Uri& uri, const std::string& upload) const {
  return Send(Request(uri, "DELETE", "uploadId=" + PercentEncode(upload, false))).status();
}

}  // namespace linchpin
