// The two dialects of S3's protocol: that of Amazon and those who follow it, and
// Google's, which keeps methods, paths and XML and renames what is in headers.
// https://cloud.google.com/storage/docs/authentication/signatures
// https://cloud.google.com/storage/docs/xml-api/reference-headers
#pragma once

#include <string_view>

namespace linchpin {

// All texts are literals.
struct S3Dialect {
  std::string_view algorithm;      // names the signature in the Authorization header
  std::string_view key_prefix;     // stands before the secret key where it is first hashed
  std::string_view terminator;     // ends the scope of a signature
  std::string_view service;        // in that scope
  std::string_view header_prefix;  // of the headers that HTTP does not know
  // The header by which an object is created only where none is, and its value.
  std::string_view create_header;
  std::string_view create_value;
  bool copies_parts;  // a part of an upload may be copied from an object
};

inline constexpr S3Dialect kAmazonDialect = {.algorithm = "AWS4-HMAC-SHA256",
                                             .key_prefix = "AWS4",
                                             .terminator = "aws4_request",
                                             .service = "s3",
                                             .header_prefix = "x-amz-",
                                             .create_header = "If-None-Match",
                                             .create_value = "*",
                                             .copies_parts = true};

// Google takes Amazon's headers, too, but then ignores If-None-Match, and refuses
// its own condition beside them.  A copy there has no largest size.
inline constexpr S3Dialect kGoogleDialect = {.algorithm = "GOOG4-HMAC-SHA256",
                                             .key_prefix = "GOOG4",
                                             .terminator = "goog4_request",
                                             .service = "storage",
                                             .header_prefix = "x-goog-",
                                             .create_header = "x-goog-if-generation-match",
                                             .create_value = "0",
                                             .copies_parts = false};

}  // namespace linchpin
