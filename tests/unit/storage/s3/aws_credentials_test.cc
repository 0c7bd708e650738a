#include "storage/s3/aws_credentials.h"

#include <cstdlib>
#include <string>
#include <thread>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/patience.h"
#include "tests/support/scripted_http_server.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class AwsCredentialsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                             "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
                             "AWS_ROLE_SESSION_NAME", "AWS_SHARED_CREDENTIALS_FILE",
                             "AWS_ENDPOINT_URL_STS", "AWS_EC2_METADATA_SERVICE_ENDPOINT"}) {
      unsetenv(name);
    }
    setenv("HOME", directory_.path().c_str(), 1);
  }
  static void Set(const char* name, const std::string& value) { setenv(name, value.c_str(), 1); }
  static std::string UrlOf(const ScriptedHttpServer& server) {
    return fmt::format("http://127.0.0.1:{}", server.port());
  }
  // No address is allowed but those that the environment names.
  static AwsCredentialChain Chain(bool instance = false) {
    HttpOptions options{.addresses = *AddressRule::Create({})};
    options.retry = {.attempts = 2, .first_pause = std::chrono::milliseconds(1)};
    return {HttpClient(options), {.region = "eu-west-1", .instance_metadata = instance}};
  }
  static std::string Role(const std::string& key, const std::string& expires) {
    return fmt::format(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        "<AccessKeyId>{}</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T"
        "</SessionToken><Expiration>{}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
        "</AssumeRoleWithWebIdentityResponse>",
        key, expires);
  }

  // A role and a token, which are exchanged there.
  void SetWebIdentity(const ScriptedHttpServer& sts) {
    Set("AWS_ENDPOINT_URL_STS", UrlOf(sts));
    Set("AWS_ROLE_ARN", "role");
    Set("AWS_WEB_IDENTITY_TOKEN_FILE", directory_.Write("token", "t"));
  }
  // What expired then is asked for anew each time.
  void ExpectRenewed(const std::string& expires) {
    ScriptedHttpServer sts([&](const ScriptedRequest& request) {
      return Answer(200, Role(fmt::format("A{}", request.number), expires));
    });
    SetWebIdentity(sts);
    AwsCredentialChain chain = Chain();
    EXPECT_EQ(chain.Get({})->access_key, "A0");
    EXPECT_EQ(chain.Get({})->access_key, "A1");
  }

  TemporaryDirectory directory_;
};

TEST_F(AwsCredentialsTest, TheEnvironmentComesFirst) {
  Set("AWS_ACCESS_KEY_ID", "env");
  Set("AWS_SECRET_ACCESS_KEY", "secret");
  Set("AWS_SESSION_TOKEN", "token");
  Set("AWS_SHARED_CREDENTIALS_FILE", "/nowhere");
  const auto found = Chain().Get({});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key + found->secret_key + found->session_token, "envsecrettoken");
}

TEST_F(AwsCredentialsTest, ReadsTheProfileThatIsNamed) {
  directory_.Write(".aws/credentials",
                   "# comment\n[default]\naws_access_key_id = one\n aws_secret_access_key=s=1 \n"
                   "[ other ]\r\naws_access_key_id=two\r\naws_secret_access_key=s2\r\n"
                   "aws_session_token = t\r\n[half]\naws_access_key_id=three\n");
  const auto main = Chain().Get({});
  ASSERT_TRUE(main.ok()) << main.status();
  EXPECT_EQ(main->access_key + " " + main->secret_key, "one s=1");
  Set("AWS_PROFILE", "other");
  EXPECT_EQ(Chain().Get({})->session_token, "t");
  Set("AWS_PROFILE", "half");
  EXPECT_EQ(ReasonOf(Chain().Get({}).status()), Reason::kStorageFailed);
}

TEST_F(AwsCredentialsTest, SaysWhereItLooked) {
  const absl::Status status = Chain().Get({}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("profile"));
  Set("AWS_SHARED_CREDENTIALS_FILE", directory_ / "none");
  EXPECT_THAT(std::string(Chain().Get({}).status().message()), HasSubstr(directory_ / "none"));
}

TEST_F(AwsCredentialsTest, ExchangesAWebIdentityAndKeepsWhatItGets) {
  ScriptedHttpServer sts([](const ScriptedRequest& request) {
    return Answer(200, Role(fmt::format("A{}", request.number), "2099-01-01T00:00:00Z"));
  });
  Set("AWS_ENDPOINT_URL_STS", UrlOf(sts));
  Set("AWS_ROLE_ARN", "arn:aws:iam::1:role/x");
  Set("AWS_WEB_IDENTITY_TOKEN_FILE", directory_.Write("token", "a.b+c\n"));
  AwsCredentialChain chain = Chain();
  for (int i = 0; i < 3; ++i) {
    const auto found = chain.Get({});
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->access_key + found->secret_key + found->session_token, "A0ST");
  }
  ASSERT_EQ(sts.requests().size(), 1U);
  EXPECT_EQ(sts.requests()[0].method, "POST");
  EXPECT_EQ(sts.requests()[0].headers.at("content-type"), "application/x-www-form-urlencoded");
  EXPECT_EQ(sts.requests()[0].body,
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3A"
            "role%2Fx&RoleSessionName=linchpin&WebIdentityToken=a.b%2Bc");
}

TEST_F(AwsCredentialsTest, RenewsWhatExpires) { ExpectRenewed("2020-01-01T00:00:00Z"); }

// Five minutes before the earliest time that can be counted came out as a time to come.
TEST_F(AwsCredentialsTest, WhatExpiredAtTheEarliestTimeIsNotKept) {
  ExpectRenewed("1677-09-21T00:12:44Z");
}

// One asks a server that never answers, the others wait for that one.
TEST_F(AwsCredentialsTest, AStopEndsWaitingForThem) {
  ScriptedHttpServer sts([](const ScriptedRequest&) {
    return ScriptedReply{.bytes = "", .then = ScriptedReply::Then::kStall};
  });
  SetWebIdentity(sts);
  HttpOptions patient{.addresses = *AddressRule::Create({}), .slow_for = std::chrono::hours(1)};
  AwsCredentialChain chain(HttpClient(std::move(patient)), {});
  std::stop_source first, second;
  std::jthread asks(
      [&] { EXPECT_EQ(ReasonOf(chain.Get(first.get_token()).status()), Reason::kCancelled); });
  EXPECT_TRUE(Comes([&] { return !sts.requests().empty(); }));
  std::jthread waits(
      [&] { EXPECT_EQ(ReasonOf(chain.Get(second.get_token()).status()), Reason::kCancelled); });
  second.request_stop();
  waits.join();
  EXPECT_EQ(sts.requests().size(), 1U);
  first.request_stop();
}

TEST_F(AwsCredentialsTest, AFailedExchangeIsToldAndTheTokenIsNot) {
  ScriptedHttpServer sts([](const ScriptedRequest&) {
    return Answer(403, "<Error><Code>AccessDenied</Code></Error>");
  });
  Set("AWS_ENDPOINT_URL_STS", UrlOf(sts));
  Set("AWS_ROLE_ARN", "role");
  Set("AWS_WEB_IDENTITY_TOKEN_FILE", directory_.Write("token", "planted-token"));
  const absl::Status status = Chain().Get({}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("403"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("planted-token")));
}

TEST_F(AwsCredentialsTest, AsksTheInstanceOnlyWhereItMay) {
  ScriptedHttpServer metadata([](const ScriptedRequest& request) {
    const std::string roles = "/latest/meta-data/iam/security-credentials/";
    if (request.target == "/latest/api/token" && request.method == "PUT") {
      return Answer(200, "session");
    }
    if (request.headers.at("x-aws-ec2-metadata-token") != "session") return Answer(401);
    if (request.target == roles) return Answer(200, "my-role\n");
    if (request.target != roles + "my-role") return Answer(404);
    return Answer(200, R"({"Code":"Success","AccessKeyId":"I","SecretAccessKey":"S",
                           "Token":"T","Expiration":"2099-01-01T00:00:00Z"})");
  });
  Set("AWS_EC2_METADATA_SERVICE_ENDPOINT", UrlOf(metadata));
  EXPECT_FALSE(Chain(false).Get({}).ok());
  EXPECT_EQ(metadata.connections(), 0);
  const auto found = Chain(true).Get({});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->access_key + found->secret_key + found->session_token, "IST");
}

}  // namespace
}  // namespace linchpin
