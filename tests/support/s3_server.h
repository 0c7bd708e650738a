// Object stores as processes of a test: s3rver of npm over HTTP, moto of PyPI over
// TLS, and moto behind a gate that speaks Google's dialect (google_storage.py).
// All check what they are sent; each has a bucket "models".
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "storage/s3/s3_client.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {

class S3Server {
 public:
  // Started once per process, at the first use.  Fails the test where the
  // program is absent: tests/run.sh installs it.
  static S3Server& S3rver();
  static S3Server& Moto();
  static S3Server& Google();
  ~S3Server();

  // For a client with small parts (5 MiB) and short pauses between attempts.
  HttpOptions http_options() const;
  S3Options s3_options() const;
  S3Client Client() const;
  const AwsCredentials& credentials() const { return credentials_; }

 private:
  explicit S3Server(AwsCredentials credentials) : credentials_(std::move(credentials)) {}
  void Start(const std::string& program, const std::vector<std::string>& arguments,
             const std::vector<std::string>& environment);
  // `start` on a port that was free just now, and on another where somebody else was
  // quicker, until the server answers.
  void StartOnAPort(const std::function<void(int port)>& start, bool create_bucket);
  // False if the process ends instead.
  bool AwaitBucket(bool create);

  const AwsCredentials credentials_;
  TemporaryDirectory directory_;
  S3Dialect dialect_ = kAmazonDialect;
  std::string endpoint_;
  std::string ca_file_;
  pid_t process_ = -1;
};

}  // namespace linchpin
