// Where the server's own credentials come from: the standard chain of AWS.
// Never from a call.
//
//   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//   2. AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, exchanged at STS
//   3. the profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE
//      (~/.aws/credentials)
//   4. the instance's metadata service (IMDSv2), where the operator says so
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "storage/http/http_client.h"
#include "storage/s3/sigv4.h"

namespace linchpin {

// Thread-safe.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;
  // STORAGE_FAILED saying where it looked; CANCELLED once `stop` is requested.
  virtual absl::StatusOr<AwsCredentials> Get(const std::stop_token& stop) = 0;
};

class FixedCredentials : public CredentialSource {
 public:
  explicit FixedCredentials(AwsCredentials credentials) : credentials_(std::move(credentials)) {}
  absl::StatusOr<AwsCredentials> Get(const std::stop_token&) override { return credentials_; }

 private:
  const AwsCredentials credentials_;
};

// Keeps what it found until five minutes before it expires.
class AwsCredentialChain : public CredentialSource {
 public:
  struct Options {
    std::string region;
    bool instance_metadata = false;
  };
  AwsCredentialChain(HttpClient client, Options options)
      : client_(std::move(client)), options_(std::move(options)) {}

  // Of several threads that want them, one asks; the others wait for it.
  absl::StatusOr<AwsCredentials> Get(const std::stop_token& stop) override;

 private:
  // Nothing where this link of the chain is not set up.
  using Found = absl::StatusOr<std::optional<AwsCredentials>>;
  static Found FromEnvironment();
  Found FromWebIdentity(const HttpClient& client) const;
  static Found FromProfile();
  Found FromInstance(const HttpClient& client) const;
  absl::StatusOr<AwsCredentials> Find(const HttpClient& client) const;
  bool IsFresh() const;  // with mutex_ held

  const HttpClient client_;
  const Options options_;
  std::mutex mutex_;
  std::condition_variable_any answered_;
  std::optional<AwsCredentials> kept_;  // guarded by mutex_
  bool asking_ = false;                 // guarded by mutex_
};

// An environment variable, or nothing where it is not set or empty.
std::optional<std::string> EnvironmentText(const char* name);

}  // namespace linchpin
