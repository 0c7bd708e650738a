// Puts the stores of a server together from its operator's settings.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/local_storage.h"
#include "storage/uri_storage.h"

namespace linchpin {

struct RemoteStorageOptions {
  UriPrefixes prefixes;  // default: none, so nothing is reached over a network
  std::vector<std::string> allowed_addresses;  // that are not public, "10.0.0.0/8"
  std::string ca_file;                         // PEM, in place of the system's authorities
  // Of S3; empty for AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or AWS itself, and
  // for AWS_REGION, AWS_DEFAULT_REGION or us-east-1.  One that is named here is
  // spoken to with the bucket in the path, at whatever address it has.
  std::string s3_endpoint;
  std::string s3_region;
  bool s3_instance_metadata = false;  // may give the credentials
  std::string hub_endpoint;           // empty for HF_ENDPOINT or https://huggingface.co
};

// Hears of every request to a store: its scheme and the HTTP status, 0 for none.
using RequestObserver = std::function<void(std::string_view scheme, int http_status)>;

// The local store and those of s3, gs, https and hf.  Credentials come from the
// environment: those of AWS (s3/aws_credentials.h), GS_ACCESS_KEY_ID and
// GS_SECRET_ACCESS_KEY (HMAC keys), HF_TOKEN.  OPTION_INVALID.
absl::StatusOr<std::unique_ptr<UriStorage>> OpenStores(const LocalStorageOptions& local,
                                                       const RemoteStorageOptions& remote,
                                                       RequestObserver observer);

}  // namespace linchpin
