#include "storage/uri.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Canonical(const std::string& text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  return uri.ok() ? uri->Text() : std::string(uri.status().message());
}

TEST(Uri, TakesApartEverySchemeOfTheTable) {
  EXPECT_EQ(*ParseUri("s3://bucket/a/b c"), (Uri{"s3", "bucket", "/a/b c"}));
  EXPECT_EQ(*ParseUri("gs://bucket"), (Uri{"gs", "bucket", ""}));
  EXPECT_EQ(*ParseUri("file:///models/x"), (Uri{"file", "", "/models/x"}));
  EXPECT_EQ(*ParseUri("https://host:8443/a%20b"), (Uri{"https", "host:8443", "/a%20b"}));
  EXPECT_EQ(*ParseUri("hf://owner/model@v1.0/sub/file"),
            (Uri{"hf", "owner", "/model/sub/file", "v1.0"}));
}

TEST(Uri, HasOneSpelling) {
  EXPECT_EQ(Canonical("HTTPS://Host.Example:443/a/"), "https://host.example/a");
  EXPECT_EQ(Canonical("https://[2001:DB8::1]:443/a"), "https://[2001:db8::1]/a");
  EXPECT_EQ(Canonical("S3://bucket/"), "s3://bucket");
  EXPECT_EQ(Canonical("hf://owner/model@main"), "hf://owner/model@main");
  EXPECT_EQ(Canonical("hf://owner/model@main/a"), "hf://owner/model@main/a");
  EXPECT_EQ(Canonical("s3://bucket/a%2e%2e/?b#c"), "s3://bucket/a%2e%2e/?b#c")
      << "a key is as it is";
}

TEST(Uri, RefusesWhatHasMoreThanOneReading) {
  for (const std::string text : {"https://host/a/../b",
                                 "https://host/%2e%2e/b",
                                 "https://host/a%2fb",
                                 "https://host/a%5cb",
                                 "https://host/a%00",
                                 "https://host/a%0a",
                                 "https://host/a%252e",
                                 "https://host/a%2",
                                 "https://host//a",
                                 "https://host/./a",
                                 "https://user@host/a",
                                 "https://user:word@host/a",
                                 "https://host/a?b=c",
                                 "https://host/a#b",
                                 "https://host/a b",
                                 "https://host/ä",
                                 "https://host\\@evil/a",
                                 "https://evil.com\\.host/a",
                                 "https://host:0/",
                                 "https://host:65536/",
                                 "https://host:/",
                                 "https://host:8o/",
                                 "https://host./a",
                                 "https://.host/a",
                                 "https://ho..st/a",
                                 "https://-host/a",
                                 "https:///a",
                                 "https://[::1/a",
                                 "https://[::1]evil/a",
                                 "https://[g::]/a",
                                 "https://host%2eevil/a",
                                 "s3://bucket/a//b",
                                 "s3://bucket/../b",
                                 "s3://bucket/a/.",
                                 "s3://bu cket/a",
                                 "s3://bucket@evil/a",
                                 "s3://bucket:80/a",
                                 "s3://../a",
                                 "s3:///a",
                                 "s3://bucket/a\\b",
                                 "file://host/a",
                                 "file:///a/../b",
                                 "hf://owner/a@b@c",
                                 "hf://owner/@v",
                                 "hf://owner/model@",
                                 "hf://owner/model@../x",
                                 "http://host/a",
                                 "ftp://host/a",
                                 "javascript://x",
                                 "://x",
                                 "s3:/bucket",
                                 "bucket/key",
                                 ""}) {
    EXPECT_EQ(ReasonOf(ParseUri(text).status()), Reason::kPathNotAllowed) << text;
  }
  EXPECT_FALSE(ParseUri(std::string("s3://b/a\0b", 10)).ok());
  EXPECT_FALSE(ParseUri("s3://b/a\nb").ok());
  EXPECT_FALSE(ParseUri("s3://b/\xff").ok());
  EXPECT_FALSE(ParseUri("s3://b/" + std::string(3000, 'a')).ok());
}

TEST(Uri, ErrorsDoNotRepeatAQuery) {
  const absl::Status status = ParseUri("https://host/a?X-Amz-Signature=secret").status();
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
}

TEST(Uri, PrefixesCoverWholeComponents) {
  const Uri prefix = *ParseUri("s3://bucket/models");
  EXPECT_TRUE(Covers(prefix, *ParseUri("s3://bucket/models")));
  EXPECT_TRUE(Covers(prefix, *ParseUri("s3://bucket/models/a/b")));
  for (const char* other : {"s3://bucket/models2", "s3://bucket/model", "s3://bucket",
                            "s3://bucket2/models", "gs://bucket/models"}) {
    EXPECT_FALSE(Covers(prefix, *ParseUri(other))) << other;
  }
  EXPECT_TRUE(Covers(*ParseUri("s3://bucket"), *ParseUri("s3://bucket/x")));
  EXPECT_FALSE(Covers(*ParseUri("https://host"), *ParseUri("https://host:8443/x")));
}

TEST(Uri, APrefixWithoutARevisionCoversAll) {
  const Uri model = *ParseUri("hf://owner/model@v1/file");
  EXPECT_TRUE(Covers(*ParseUri("hf://owner"), model));
  EXPECT_TRUE(Covers(*ParseUri("hf://owner/model"), model));
  EXPECT_TRUE(Covers(*ParseUri("hf://owner/model@v1"), model));
  EXPECT_FALSE(Covers(*ParseUri("hf://owner/model@v2"), model));
  EXPECT_FALSE(Covers(*ParseUri("hf://owner/mod"), model));
}

TEST(Uri, ResolvesWhereARedirectLeads) {
  const Uri base = *ParseUri("https://host/a/b");
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"https://other/x?sig=1%2F", "https://other/x?sig=1%2F"},
      {"//other/x", "https://other/x"},
      {"/x/y", "https://host/x/y"},
      {"c", "https://host/a/c"},
      {"http://127.0.0.1:80/x", "http://127.0.0.1/x"},
      {"/x#fragment", "https://host/x"},
  };
  for (const auto& [location, expected] : cases) {
    const absl::StatusOr<Uri> uri = ResolveReference(base, location);
    ASSERT_TRUE(uri.ok()) << location << " " << uri.status();
    EXPECT_EQ(uri->Text(), expected);
  }
  for (const char* location : {"file:///etc/passwd", "s3://bucket/x", "gopher://host/x", "../x",
                               "https://user@host/", "/x?a b", "/x?a\"b", "https://host\\@evil/"}) {
    EXPECT_FALSE(ResolveReference(base, location).ok()) << location;
  }
}

TEST(Uri, EndpointsMayBePlain) {
  EXPECT_EQ(ParseEndpoint("http://minio:9000")->Text(), "http://minio:9000");
  EXPECT_EQ(ParseEndpoint("https://s3.example/")->Text(), "https://s3.example");
  for (const char* text : {"minio:9000", "s3://bucket", "http://user:word@minio", ""}) {
    EXPECT_EQ(ReasonOf(ParseEndpoint(text).status()), Reason::kOptionInvalid) << text;
  }
}

TEST(Uri, PercentEncodesAsRfc3986) {
  EXPECT_EQ(PercentEncode("a b/ü~-._*'()!", true), "a%20b/%C3%BC~-._%2A%27%28%29%21");
  EXPECT_EQ(PercentEncode("a/b+c=", false), "a%2Fb%2Bc%3D");
}

}  // namespace
}  // namespace linchpin
