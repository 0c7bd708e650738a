// An S3 that misbehaves: what a client must not take for success.
#include <string>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/s3/s3_client.h"
#include "storage/s3/s3_storage.h"
#include "tests/support/scripted_http_server.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Then = ScriptedReply::Then;

std::string ErrorXml(const std::string& code) {
  return "<?xml version=\"1.0\"?><Error><Code>" + code + "</Code><Message>m</Message></Error>";
}

class S3FaultsTest : public ::testing::Test {
 protected:
  S3Client Client(bool path_style = true) const {
    HttpOptions options{.addresses = *AddressRule::Create({"127.0.0.1"})};
    options.retry = {.attempts = 3, .first_pause = std::chrono::milliseconds(1)};
    options.resolve = {fmt::format("bucket.s3.test:{}:127.0.0.1", server_.port())};
    const std::string host = path_style ? "127.0.0.1" : "s3.test";
    return {HttpClient(options),
            {.endpoint = *ParseEndpoint(fmt::format("http://{}:{}", host, server_.port())),
             .path_style = path_style},
            std::make_shared<FixedCredentials>(AwsCredentials{"key", "planted-secret"})};
  }
  void Always(ScriptedReply reply) {
    script_ = [reply](const ScriptedRequest&) { return reply; };
  }

  const Uri object_ = *ParseUri("s3://bucket/a b/c");
  std::function<ScriptedReply(const ScriptedRequest&)> script_ = [](const ScriptedRequest&) {
    return Answer(200);
  };
  ScriptedHttpServer server_{[this](const ScriptedRequest& request) { return script_(request); }};
};

TEST_F(S3FaultsTest, AnErrorWithinA200IsAnError) {
  Always(Answer(200, ErrorXml("InvalidPart")));
  EXPECT_EQ(ReasonOf(Client().CompleteUpload(object_, "id", {"\"e\""}, false)),
            Reason::kStorageFailed);
  EXPECT_EQ(server_.requests().size(), 1U);
  EXPECT_FALSE(Client().Copy(object_, 1, object_, false).ok());
  Always(Answer(200, ""));
  EXPECT_FALSE(Client().CompleteUpload(object_, "id", {"\"e\""}, false).ok()) << "nor is nothing";
}

TEST_F(S3FaultsTest, AnErrorWithinA200ThatMayPassIsTriedAgain) {
  script_ = [](const ScriptedRequest& request) {
    return Answer(200, request.number < 2 ? "\n \n" + ErrorXml("InternalError")
                                          : "<CompleteMultipartUploadResult/>");
  };
  const absl::Status status = Client().CompleteUpload(object_, "id", {"\"e\""}, false);
  EXPECT_TRUE(status.ok()) << status;
  script_ = [](const ScriptedRequest&) { return Answer(200, ErrorXml("SlowDown")); };
  EXPECT_EQ(ReasonOf(Client().CompleteUpload(object_, "id", {"\"e\""}, false)),
            Reason::kStorageFailed);
}

TEST_F(S3FaultsTest, ConditionsThatFailAreTold) {
  Always(Answer(412, ErrorXml("PreconditionFailed")));
  EXPECT_EQ(ReasonOf(Client().Put(object_, {}, true)), Reason::kOutputExists);
  EXPECT_EQ(server_.requests()[0].headers.at("if-none-match"), "*");
  script_ = [](const ScriptedRequest& request) {
    return request.number < 3 ? Answer(409, ErrorXml("ConditionalRequestConflict")) : Answer(200);
  };
  EXPECT_TRUE(Client().Put(object_, {}, true).ok()) << "a conflict passes";
  Always(Answer(409, ErrorXml("OperationAborted")));
  EXPECT_EQ(ReasonOf(Client().Put(object_, {}, true)), Reason::kStorageFailed);
}

TEST_F(S3FaultsTest, StatusesHaveTheirReasons) {
  const std::vector<std::tuple<int, std::string, Reason, std::string>> cases = {
      {403, "AccessDenied", Reason::kPathNotAllowed, "AccessDenied"},
      {403, "RequestTimeTooSkewed", Reason::kPathNotAllowed, "RequestTimeTooSkewed"},
      {404, "NoSuchKey", Reason::kSourceNotFound, "no such file"},
      {301, "PermanentRedirect", Reason::kStorageFailed, "another region"},
      {400, "AuthorizationHeaderMalformed", Reason::kStorageFailed, "another region"},
      {503, "SlowDown", Reason::kStorageFailed, "503"},
  };
  for (const auto& [code, name, reason, text] : cases) {
    Always(Answer(code, ErrorXml(name), {"Location: http://169.254.169.254/"}));
    const absl::Status status = Client().List(object_, "", "").status();
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("planted-secret")));
  }
}

TEST_F(S3FaultsTest, NonsenseIsNoListing) {
  for (const char* body : {"", "<html/>", "<ListBucketResult>", "{}"}) {
    Always(Answer(200, body));
    EXPECT_EQ(ReasonOf(Client().List(object_, "", "").status()), Reason::kStorageFailed) << body;
    EXPECT_FALSE(Client().StartUpload(object_).ok());
  }
  Always(Answer(200));
  EXPECT_FALSE(Client().UploadPart(object_, "id", 1, {}).ok()) << "a part without an ETag";
}

TEST_F(S3FaultsTest, AnEndlessListingEnds) {
  script_ = [](const ScriptedRequest& request) {
    std::string xml = "<ListBucketResult><IsTruncated>true</IsTruncated>";
    xml += fmt::format("<NextContinuationToken>{}</NextContinuationToken>", request.number);
    for (int i = 0; i < 1000; ++i) {
      xml +=
          fmt::format("<Contents><Key>d/{}-{}</Key><Size>1</Size></Contents>", request.number, i);
    }
    return Answer(200, xml + "</ListBucketResult>");
  };
  EXPECT_EQ(ReasonOf(S3Storage(Client()).List("s3://bucket/d").status()), Reason::kStorageFailed);
  EXPECT_LE(server_.requests().size(), 102U);
  const size_t before = server_.requests().size();
  EXPECT_TRUE(S3Storage(Client()).IsDirectory("s3://bucket").value_or(false) ||
              server_.requests().size() > before);
}

TEST_F(S3FaultsTest, ResultsOutliveABrokenConnection) {
  script_ = [](const ScriptedRequest& request) {
    ScriptedReply reply = Answer(200, "", {"ETag: \"e\""});
    if (request.number == 0) reply = {.bytes = "HTTP/1.1 200", .then = Then::kReset};
    return reply;
  };
  const std::string part(1000, 'x');
  const auto etag = Client().UploadPart(
      object_, "id", 3, {reinterpret_cast<const std::byte*>(part.data()), part.size()});
  ASSERT_TRUE(etag.ok()) << etag.status();
  EXPECT_EQ(*etag, "\"e\"");
  ASSERT_EQ(server_.requests().size(), 2U);
  EXPECT_EQ(server_.requests()[1].body, part) << "sent again whole";
  EXPECT_EQ(server_.requests()[1].target, "/bucket/a%20b/c?partNumber=3&uploadId=id");
}

TEST_F(S3FaultsTest, TheBucketMayBeInTheHost) {
  ASSERT_TRUE(Client(false).Put(object_, {}, false).ok());
  ASSERT_EQ(server_.requests().size(), 1U);
  EXPECT_EQ(server_.requests()[0].target, "/a%20b/c");
  EXPECT_EQ(server_.requests()[0].headers.at("host"),
            fmt::format("bucket.s3.test:{}", server_.port()));
}

// Every instant at which a commit can fail: the n-th request that would write,
// and all after it, are refused.
TEST_F(S3FaultsTest, WhateverFailsNothingPartialIsVisible) {
  std::map<std::string, std::string> objects;
  int left = 0;  // writes that succeed
  script_ = [&](const ScriptedRequest& request) {
    const std::string key = request.target.substr(0, request.target.find('?'));
    if (request.method == "GET" && request.target.find("list-type") != std::string::npos) {
      std::string xml = "<ListBucketResult>";
      for (const auto& [name, content] : objects) {
        const std::string relative = name.substr(std::string("/bucket/").size());
        xml += fmt::format("<Contents><Key>{}</Key><Size>{}</Size></Contents>", relative,
                           content.size());
      }
      return Answer(200, xml + "</ListBucketResult>");
    }
    if (request.method == "GET" || request.method == "HEAD") {
      if (!objects.contains(key)) return Answer(404);
      ScriptedReply reply = ServeFile(request, objects[key]);
      if (request.method == "HEAD") reply.bytes.resize(reply.bytes.find("\r\n\r\n") + 4);
      return reply;
    }
    if (request.method == "DELETE") return objects.erase(key), Answer(204);  // cleaning works
    if (left-- <= 0) return Answer(403, ErrorXml("AccessDenied"));
    if (objects.contains(key) && request.headers.contains("if-none-match")) return Answer(412);
    objects[key] = request.body;
    return Answer(200, "", {"ETag: \"e\""});
  };
  const S3Storage storage(Client());
  int n = 0;
  for (bool committed = false; !committed && n < 100; ++n) {
    left = 1'000'000;
    objects.clear();
    {
      auto output = storage.CreateDirectory("s3://bucket/out", false);
      ASSERT_TRUE(output.ok()) << output.status();
      for (const char* name : {"a", "b", "linchpin.json"}) {
        ASSERT_TRUE((*(*output)->CreateFile(name, 1))
                        ->WriteAt(0, {reinterpret_cast<const std::byte*>("x"), 1})
                        .ok());
      }
      left = n;
      committed = (*output)->Commit().ok();
      EXPECT_FALSE(committed && left < 0);
    }
    if (committed) break;
    EXPECT_TRUE(objects.empty()) << "after " << n << " writes: " << objects.begin()->first;
  }
  EXPECT_EQ(n, 4) << "the mark and three files";
  EXPECT_EQ(objects.size(), 3U);
}

}  // namespace
}  // namespace linchpin
