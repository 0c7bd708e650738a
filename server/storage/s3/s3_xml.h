// The XML that S3 and STS speak, as far as we need it.  No entity or document
// type is ever expanded.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage/s3/sigv4.h"

namespace linchpin {

using SystemTime = std::chrono::system_clock::time_point;

// One page of ListObjectsV2.
struct S3Page {
  struct Object {
    std::string key;
    uint64_t size = 0;
    SystemTime modified;
  };
  std::vector<Object> objects;
  std::string next;  // continuation token; empty after the last page
};

// Each gives nothing for a document that is not what it should be.
std::optional<S3Page> ParseListing(const std::string& xml);
std::optional<std::string> ParseUploadId(const std::string& xml);
// ETag of a CopyObjectResult or CopyPartResult.
std::optional<std::string> ParseCopiedETag(const std::string& xml);
// True for a CompleteMultipartUploadResult.
bool IsCompletion(const std::string& xml);
// The Credentials of an AssumeRoleWithWebIdentityResponse.
std::optional<AwsCredentials> ParseAssumedRole(const std::string& xml);

// The Code of an Error document, letters, digits and dots only; empty for
// anything else.
std::string ErrorCodeOf(const std::string& xml);

// Seconds since 1970 as a time; nothing for one that nanoseconds cannot count (before 1678, after
// 2262).
std::optional<SystemTime> TimeOf(time_t seconds);

// "2026-11-26T13:00:00.000Z", the time of ISO 8601, of a year as above.
std::optional<SystemTime> ParseIsoTime(const std::string& text);

// The body of a CompleteMultipartUpload, the parts counted from 1.
std::string CompletionXml(const std::vector<std::string>& etags);

}  // namespace linchpin
