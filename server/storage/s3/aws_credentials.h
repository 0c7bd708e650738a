// Where the server's own credentials come from: the standard chain of AWS.
// Never from a call.
//
//   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//   2. AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, exchanged at STS
//   3. the profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE
//      (~/.aws/credentials)
//   4. the instance's metadata service (IMDSv2), where the operator says so
#pragma once

#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "storage/http/http_client.h"
#include "storage/s3/sigv4.h"

namespace linchpin {

// Thread-safe.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;
  // STORAGE_FAILED saying where it looked.
  virtual absl::StatusOr<AwsCredentials> Get() = 0;
};

class FixedCredentials : public CredentialSource {
 public:
  explicit FixedCredentials(AwsCredentials credentials) : credentials_(std::move(credentials)) {}
  absl::StatusOr<AwsCredentials> Get() override { return credentials_; }

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

  absl::StatusOr<AwsCredentials> Get() override;

 private:
  // Nothing where this link of the chain is not set up.
  using Found = absl::StatusOr<std::optional<AwsCredentials>>;
  static Found FromEnvironment();
  Found FromWebIdentity() const;
  static Found FromProfile();
  Found FromInstance() const;

  const HttpClient client_;
  const Options options_;
  std::mutex mutex_;
  std::optional<AwsCredentials> kept_;  // guarded by mutex_
};

// An environment variable, or nothing where it is not set or empty.
std::optional<std::string> EnvironmentText(const char* name);

}  // namespace linchpin
