// The operations of S3 that storage needs, one request each, signed and retried.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "storage/http/http_client.h"
#include "storage/http/remote_file.h"
#include "storage/object_parts.h"
#include "storage/s3/aws_credentials.h"
#include "storage/s3/s3_dialect.h"
#include "storage/s3/s3_xml.h"
#include "storage/uri.h"

namespace linchpin {

struct S3Options {
  std::string_view scheme = "s3";  // of its URIs: "s3" or "gs"
  Uri endpoint;                    // "https://s3.eu-west-1.amazonaws.com"
  bool named = false;              // the operator named it: its address is not questioned
  bool path_style = false;         // endpoint/bucket/key instead of bucket.endpoint/key
  std::string region = "us-east-1";
  S3Dialect dialect = kAmazonDialect;
  uint64_t part_bytes = kPartBytes;         // of a multipart upload
  uint64_t copy_bytes = uint64_t{4} << 30;  // larger objects are copied in parts of this
};

// An object's time by the store's own clock.
struct S3Object {
  FileVersion version;
  std::optional<SystemTime> modified;
  std::optional<SystemTime> now;
};

// URIs name objects: s3://bucket/key.  Errors are those of ErrorOf; OUTPUT_EXISTS
// where a condition is not met.  Thread-safe; copies are cheap.
class S3Client {
 public:
  S3Client(HttpClient http, S3Options options, std::shared_ptr<CredentialSource> credentials)
      : http_(std::move(http)),
        options_(std::make_shared<S3Options>(std::move(options))),
        credentials_(std::move(credentials)) {}

  S3Client Until(const std::stop_token& stop) const;
  // For cleaning up: goes on after a stop and does not try for long.
  S3Client ForCleaning(int attempts) const;
  const S3Options& options() const { return *options_; }
  const HttpClient& http() const { return http_; }

  // The signed request for an object, or for a bucket where `key` is empty.
  HttpRequest Request(const Uri& uri, std::string method, std::string query = {}) const;

  absl::StatusOr<S3Object> Head(const Uri& uri) const;
  // Objects whose key starts with that of `prefix`, one page of at most 1000.
  absl::StatusOr<S3Page> List(const Uri& bucket, const std::string& prefix,
                              const std::string& continuation) const;
  // `create`: only where nothing is; not every store holds to it.
  absl::Status Put(const Uri& uri, absl::Span<const std::byte> body, bool create) const;
  // An object that is not there counts as deleted.
  absl::Status Delete(const Uri& uri) const;
  // Server side, in parts where the object is large.
  absl::Status Copy(const Uri& from, uint64_t size, const Uri& to, bool create) const;

  absl::StatusOr<std::string> StartUpload(const Uri& uri) const;
  // Gives the part's ETag; `number` counts from 1.
  absl::StatusOr<std::string> UploadPart(const Uri& uri, const std::string& upload, size_t number,
                                         absl::Span<const std::byte> body) const;
  // An error within a 200 is an error.
  absl::Status CompleteUpload(const Uri& uri, const std::string& upload,
                              const std::vector<std::string>& etags, bool create) const;
  absl::Status AbortUpload(const Uri& uri, const std::string& upload) const;

 private:
  absl::StatusOr<HttpResponse> Send(const HttpRequest& request) const;
  absl::Status CopyInParts(const Uri& from, uint64_t size, const Uri& to, bool create) const;
  void AddCondition(HttpRequest& request, bool create) const;
  void AddHeader(HttpRequest& request, std::string_view name, std::string value) const;

  HttpClient http_;
  std::shared_ptr<const S3Options> options_;
  std::shared_ptr<CredentialSource> credentials_;
  std::stop_token stop_;
};

}  // namespace linchpin
