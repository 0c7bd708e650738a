#include "storage/remote_stores.h"

#include <utility>

#include "base/status.h"
#include "fmt/format.h"
#include "storage/http/https_storage.h"
#include "storage/http/hub_storage.h"
#include "storage/s3/s3_storage.h"

namespace linchpin {
namespace {

// The setting, or the first environment variable that is set, or nothing.
std::string FirstOf(const std::string& setting, std::initializer_list<const char*> variables) {
  if (!setting.empty()) return setting;
  for (const char* variable : variables) {
    if (const auto text = EnvironmentText(variable)) return *text;
  }
  return {};
}

absl::StatusOr<std::shared_ptr<const Storage>> OpenS3(const HttpClient& http,
                                                      const RemoteStorageOptions& remote) {
  S3Options options;
  options.region = FirstOf(remote.s3_region, {"AWS_REGION", "AWS_DEFAULT_REGION"});
  if (options.region.empty()) options.region = "us-east-1";
  const std::string named =
      FirstOf(remote.s3_endpoint, {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"});
  options.named = options.path_style = !named.empty();
  ASSIGN_OR_RETURN(
      options.endpoint,
      ParseEndpoint(options.named ? named
                                  : fmt::format("https://s3.{}.amazonaws.com", options.region)));
  auto credentials = std::make_shared<AwsCredentialChain>(
      http, AwsCredentialChain::Options{options.region, remote.s3_instance_metadata});
  return std::make_shared<S3Storage>(S3Client(http, std::move(options), std::move(credentials)));
}

// With HMAC keys: https://cloud.google.com/storage/docs/authentication/hmackeys
absl::StatusOr<std::shared_ptr<const Storage>> OpenGcs(const HttpClient& http) {
  S3Options options{
      .scheme = "gs", .path_style = true, .region = "auto", .dialect = kGoogleDialect};
  const std::string named = FirstOf({}, {"GS_ENDPOINT_URL"});
  options.named = !named.empty();
  ASSIGN_OR_RETURN(options.endpoint,
                   ParseEndpoint(options.named ? named : "https://storage.googleapis.com"));
  auto credentials = std::make_shared<FixedCredentials>(
      AwsCredentials{FirstOf({}, {"GS_ACCESS_KEY_ID"}), FirstOf({}, {"GS_SECRET_ACCESS_KEY"})});
  return std::make_shared<S3Storage>(S3Client(http, std::move(options), std::move(credentials)));
}

absl::StatusOr<std::shared_ptr<const Storage>> OpenHub(const HttpClient& http,
                                                       const RemoteStorageOptions& remote) {
  HubOptions options{.token = FirstOf({}, {"HF_TOKEN"})};
  const std::string named = FirstOf(remote.hub_endpoint, {"HF_ENDPOINT"});
  options.named = !named.empty();
  ASSIGN_OR_RETURN(options.endpoint,
                   ParseEndpoint(options.named ? named : "https://huggingface.co"));
  return std::make_shared<HubStorage>(http, std::move(options));
}

}  // namespace

absl::StatusOr<std::unique_ptr<UriStorage>> OpenStores(const LocalStorageOptions& local,
                                                       const RemoteStorageOptions& remote,
                                                       RequestObserver observer) {
  HttpOptions http_options{.ca_file = remote.ca_file, .observer = std::move(observer)};
  ASSIGN_OR_RETURN(http_options.addresses, AddressRule::Create(remote.allowed_addresses));
  const HttpClient http(std::move(http_options));
  UriStorage::Stores stores;
  ASSIGN_OR_RETURN(stores["file"], LocalStorage::Create(local));
  ASSIGN_OR_RETURN(stores["s3"], OpenS3(http, remote));
  ASSIGN_OR_RETURN(stores["gs"], OpenGcs(http));
  ASSIGN_OR_RETURN(stores["hf"], OpenHub(http, remote));
  std::vector<Uri> web;  // where redirects may lead
  for (const std::string& text : remote.prefixes.read) {
    if (const absl::StatusOr<Uri> uri = ParseUri(text); uri.ok() && uri->scheme == "https") {
      web.push_back(*uri);
    }
  }
  stores["https"] = std::make_shared<HttpsStorage>(http, std::move(web));
  return UriStorage::Create(std::move(stores), remote.prefixes);
}

}  // namespace linchpin
