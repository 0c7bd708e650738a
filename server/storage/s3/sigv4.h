// Signature Version 4, Amazon's or Google's, for requests whose credentials travel
// in a header.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "storage/http/http_message.h"
#include "storage/s3/s3_dialect.h"

namespace linchpin {

struct AwsCredentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  // of temporary ones
  std::chrono::system_clock::time_point expires = std::chrono::system_clock::time_point::max();
};

// Adds x-amz-date, x-amz-content-sha256, x-amz-security-token where there is
// one (with the dialect's prefix), and Authorization, which covers the method,
// the path and query as they stand in the URL (percent-encoded), the body and
// every header given so far.
void SignV4(const AwsCredentials& credentials, const S3Dialect& dialect, std::string_view region,
            std::chrono::system_clock::time_point now, HttpRequest& request);

// Lower-case hexadecimal SHA-256, as x-amz-content-sha256 has it.
std::string PayloadHash(absl::Span<const std::byte> bytes);

}  // namespace linchpin
