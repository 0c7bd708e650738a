// The examples of AWS' own documentation:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
#include "storage/s3/sigv4.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

const AwsCredentials kKeys{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
const auto kNow = std::chrono::system_clock::from_time_t(1369353600);  // 2013-05-24T00:00:00Z

HttpRequest Example(std::string method, std::string path, std::string query = {}) {
  return {.method = std::move(method),
          .url = {.scheme = "https",
                  .authority = "examplebucket.s3.amazonaws.com",
                  .path = std::move(path),
                  .query = std::move(query)}};
}

std::string HeaderOf(const HttpRequest& request, std::string_view name) {
  for (const auto& header : request.headers) {
    if (header.first == name) return header.second;
  }
  return {};
}

std::string Authorization(HttpRequest request) {
  SignV4(kKeys, kAmazonDialect, "us-east-1", kNow, request);
  return HeaderOf(request, "Authorization");
}

TEST(SigV4, GetObjectWithARange) {
  HttpRequest request = Example("GET", "/test.txt");
  request.headers.emplace_back("Range", "bytes=0-9");
  EXPECT_EQ(Authorization(request),
            "AWS4-HMAC-SHA256 "
            "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(SigV4, PutObject) {
  const std::string body = "Welcome to Amazon S3.";
  HttpRequest request = Example("PUT", "/test%24file.text");
  request.headers = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                     {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
  request.body = {reinterpret_cast<const std::byte*>(body.data()), body.size()};
  EXPECT_THAT(
      Authorization(request),
      EndsWith("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

TEST(SigV4, GetBucketLifecycle) {
  EXPECT_THAT(
      Authorization(Example("GET", "/", "lifecycle")),
      EndsWith("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
}

TEST(SigV4, ListObjectsWhateverTheOrderOfParameters) {
  for (const char* query : {"max-keys=2&prefix=J", "prefix=J&max-keys=2"}) {
    EXPECT_THAT(
        Authorization(Example("GET", "/", query)),
        EndsWith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
  }
}

TEST(SigV4, SignsTheTokenOfTemporaryCredentials) {
  HttpRequest request = Example("GET", "/x");
  AwsCredentials keys = kKeys;
  keys.session_token = "token";
  SignV4(keys, kAmazonDialect, "us-east-1", kNow, request);
  EXPECT_EQ(HeaderOf(request, "x-amz-security-token"), "token");
  EXPECT_THAT(HeaderOf(request, "Authorization"), HasSubstr(";x-amz-security-token,"));
}

// The signature itself is checked by tests/support/google_storage.py.
TEST(SigV4, SpeaksGooglesDialect) {
  HttpRequest request = Example("GET", "/x");
  SignV4(kKeys, kGoogleDialect, "auto", kNow, request);
  EXPECT_EQ(HeaderOf(request, "x-goog-date"), "20130524T000000Z");
  EXPECT_THAT(HeaderOf(request, "Authorization"),
              HasSubstr("GOOG4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/auto/storage/"
                        "goog4_request,SignedHeaders=host;x-goog-content-sha256;x-goog-date,"));
  for (const auto& [name, value] : request.headers) EXPECT_FALSE(name.starts_with("x-amz")) << name;
}

TEST(SigV4, EverythingThatIsSentIsUnderTheSignature) {
  const std::string plain = Authorization(Example("GET", "/x"));
  HttpRequest header = Example("GET", "/x");
  header.headers.emplace_back("If-Match", "\"etag\"");
  HttpRequest body = Example("GET", "/x");
  const std::string text = "x";
  body.body = {reinterpret_cast<const std::byte*>(text.data()), text.size()};
  for (const HttpRequest& other :
       {header, body, Example("PUT", "/x"), Example("GET", "/y"), Example("GET", "/x", "a=b")}) {
    EXPECT_NE(Authorization(other), plain);
  }
}

}  // namespace
}  // namespace linchpin
