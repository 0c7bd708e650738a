#include "storage/s3/s3_xml.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

TEST(S3Xml, ReadsAPageOfAListing) {
  const auto page = ParseListing(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>
<NextContinuationToken>1/a+b=</NextContinuationToken>
<Contents><Key>models/a&amp;b&lt;c.txt</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
<Size>434234</Size></Contents><Contents><Key>x</Key><Size>0</Size></Contents></ListBucketResult>)");
  ASSERT_TRUE(page.has_value());
  ASSERT_EQ(page->objects.size(), 2U);
  EXPECT_EQ(page->objects[0].key, "models/a&b<c.txt");
  EXPECT_EQ(page->objects[0].size, 434234U);
  EXPECT_EQ(std::chrono::system_clock::to_time_t(page->objects[0].modified), 1255369830);
  EXPECT_EQ(page->objects[1].modified, SystemTime::max());
  EXPECT_EQ(page->next, "1/a+b=");
}

// A year that a store made up was multiplied into an overflow.
TEST(S3Xml, ATimeThatNanosecondsCannotCountIsNone) {
  EXPECT_TRUE(ParseIsoTime("2262-04-11T23:47:15Z").has_value());
  EXPECT_TRUE(ParseIsoTime("1677-09-21T00:12:45Z").has_value());
  for (const std::string& text : {"2262-04-12T00:00:00Z", "2609-10-12T17:50:30Z",
                                  "9999-12-31T23:59:59Z", "1600-01-01T00:00:00Z"}) {
    EXPECT_FALSE(ParseIsoTime(text).has_value()) << text;
  }
  const auto page = ParseListing(
      "<ListBucketResult><Contents><Key>a</Key><Size>1</Size>"
      "<LastModified>2609-10-12T17:50:30Z</LastModified></Contents></ListBucketResult>");
  ASSERT_TRUE(page.has_value());
  EXPECT_EQ(page->objects[0].modified, SystemTime::max());
}

TEST(S3Xml, RefusesAListingThatIsNone) {
  const std::string open = "<ListBucketResult>";
  const std::string close = "</ListBucketResult>";
  EXPECT_TRUE(ParseListing(open + close).has_value());
  for (const std::string& text :
       {std::string(), std::string("<html></html>"), open,
        "<Error><Code>X</Code></Error>" + std::string(),
        open + "<Contents><Key>a</Key><Size>-1</Size></Contents>" + close,
        open + "<Contents><Key>a</Key><Size>99999999999999999999</Size></Contents>" + close,
        open + "<Contents><Key>a</Key></Contents>" + close,
        open + "<Contents><Size>1</Size></Contents>" + close,
        open + "<IsTruncated>true</IsTruncated>" + close}) {
    EXPECT_FALSE(ParseListing(text).has_value()) << text;
  }
}

TEST(S3Xml, ExpandsNoEntities) {
  const auto upload = ParseUploadId(
      "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\"><!ENTITY a \"aaaa\">]>"
      "<InitiateMultipartUploadResult><UploadId>&e;&a;1</UploadId></"
      "InitiateMultipartUploadResult>");
  ASSERT_TRUE(upload.has_value());
  EXPECT_EQ(*upload, "&e;&a;1");
}

TEST(S3Xml, TellsAnErrorFromASuccess) {
  const std::string error = "<Error><Code>Internal\nError' \"&amp;.1</Code></Error>";
  EXPECT_EQ(ErrorCodeOf(error), "InternalError.1");
  EXPECT_EQ(ErrorCodeOf("<html>"), "");
  EXPECT_FALSE(IsCompletion(error));
  EXPECT_FALSE(ParseCopiedETag(error).has_value());
  EXPECT_FALSE(ParseUploadId(error).has_value());
  EXPECT_TRUE(IsCompletion("<CompleteMultipartUploadResult/>"));
  EXPECT_EQ(ParseCopiedETag("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"), "\"e\"");
  EXPECT_EQ(ParseCopiedETag("<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>"), "\"p\"");
}

TEST(S3Xml, ReadsAnAssumedRole) {
  const auto role = ParseAssumedRole(
      "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
      "<AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey>"
      "<SessionToken>T</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>"
      "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>");
  ASSERT_TRUE(role.has_value());
  EXPECT_EQ(role->access_key + role->secret_key + role->session_token, "AST");
  EXPECT_EQ(std::chrono::system_clock::to_time_t(role->expires), 1893456000);
}

TEST(S3Xml, NumbersThePartsFromOne) {
  EXPECT_EQ(CompletionXml({"\"a\"", "\"b\""}),
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
            "<Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part>"
            "<Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag></Part></CompleteMultipartUpload>");
}

}  // namespace
}  // namespace linchpin
