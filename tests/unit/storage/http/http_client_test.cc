#include "storage/http/http_client.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/patience.h"
#include "tests/support/scripted_http_server.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Then = ScriptedReply::Then;

HttpOptions Quick(const std::vector<std::string>& allowed = {"127.0.0.1"}) {
  HttpOptions options{.addresses = *AddressRule::Create(allowed)};
  options.retry = {.attempts = 4,
                   .first_pause = milliseconds(1),
                   .longest_pause = milliseconds(4),
                   .longest_wanted = milliseconds(1500)};
  return options;
}

HttpRequest To(const ScriptedHttpServer& server, const std::string& path = "/x",
               const std::string& scheme = "http", const std::string& host = "127.0.0.1") {
  return {.url = {.scheme = scheme,
                  .authority = fmt::format("{}:{}", host, server.port()),
                  .path = path},
          .what = "s3://bucket/x",
          .store = "s3"};
}

TEST(HttpClient, SendsWhatItIsGivenAndReadsTheAnswer) {
  ScriptedHttpServer server([](const ScriptedRequest&) {
    return Answer(200, "hello", {"ETag:  \"v\" ", "X-Empty:"});
  });
  HttpRequest request = To(server, "/a%20b/~");
  request.method = "PUT";
  request.url.query = "x=1&y";
  request.headers = {{"X-One", "1"}, {"X-None", ""}};
  const std::string body = "the body";
  request.body = {reinterpret_cast<const std::byte*>(body.data()), body.size()};
  const auto response = HttpClient(Quick()).Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, "hello");
  EXPECT_EQ(response->Header("etag"), "\"v\"");
  ASSERT_EQ(server.requests().size(), 1U);
  const ScriptedRequest seen = server.requests()[0];
  EXPECT_EQ(seen.method + " " + seen.target, "PUT /a%20b/~?x=1&y");
  EXPECT_EQ(seen.headers.at("x-one"), "1");
  EXPECT_EQ(seen.headers.at("x-none"), "");
  EXPECT_EQ(seen.body, body);
  EXPECT_FALSE(seen.headers.contains("expect"));
  EXPECT_FALSE(seen.headers.contains("accept-encoding"));
}

// curl 7.88 joined it to the last header of the answer before, which was freed.
TEST(HttpClient, AnAnswerThatBeginsWithAFoldedLineTouchesNoEarlierOne) {
  ScriptedHttpServer server([](const ScriptedRequest& request) {
    if (request.number % 2 == 0) return Answer(404, "", {"X-Last: " + std::string(100, 'a')});
    return ScriptedReply{"HTTP/1.1 404 None\r\n fol:ded\r\n\r\n", Then::kClose};
  });
  const HttpClient client(Quick());
  for (int turn = 0; turn < 4; ++turn) {
    const auto answer = client.Send(To(server));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->Header("x-last"), std::string(100, 'a'));
    EXPECT_EQ(ReasonOf(client.Send(To(server)).status()), Reason::kStorageFailed);
  }
}

TEST(HttpClient, TriesAgainWhatMayPass) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    ScriptedHttpServer server([&](const ScriptedRequest& request) {
      return request.number < 3 ? Answer(status, "busy") : Answer(200, "there");
    });
    const auto response = HttpClient(Quick()).Send(To(server));
    ASSERT_TRUE(response.ok()) << status << " " << response.status();
    EXPECT_EQ(response->body, "there");
    EXPECT_EQ(server.requests().size(), 4U);
  }
}

TEST(HttpClient, GivesUpAfterItsAttempts) {
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(503); });
  const absl::Status status = HttpClient(Quick()).Send(To(server)).status();
  EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("s3://bucket/x: its server answers 503"));
  EXPECT_EQ(server.requests().size(), 4U);
}

TEST(HttpClient, OtherStatusesAreAnswers) {
  for (const int status : {400, 403, 404, 409, 412, 501}) {
    ScriptedHttpServer server([&](const ScriptedRequest&) { return Answer(status, "why"); });
    const auto response = HttpClient(Quick()).Send(To(server));
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->body, "why");
    EXPECT_EQ(server.requests().size(), 1U);
  }
}

TEST(HttpClient, OutlivesConnectionsThatBreak) {
  for (const Then then : {Then::kClose, Then::kReset}) {
    for (const size_t cut : {size_t{0}, size_t{5}, size_t{40}, size_t{60}}) {
      ScriptedHttpServer server([&](const ScriptedRequest& request) {
        ScriptedReply reply = Answer(200, std::string(100, 'x'));
        if (request.number < 2) {
          reply.bytes.resize(cut);
          reply.then = then;
        }
        return reply;
      });
      const auto response = HttpClient(Quick()).Send(To(server));
      ASSERT_TRUE(response.ok()) << cut << " " << response.status();
      EXPECT_EQ(response->body, std::string(100, 'x')) << "nothing is left of broken attempts";
    }
  }
}

TEST(HttpClient, WaitsAsLongAsRetryAfterSays) {
  ScriptedHttpServer server([](const ScriptedRequest& request) {
    return request.number == 0 ? Answer(429, "", {"Retry-After: 1"}) : Answer(200);
  });
  const auto start = steady_clock::now();
  EXPECT_TRUE(HttpClient(Quick()).Send(To(server)).ok());
  EXPECT_GE(steady_clock::now() - start, seconds(1));
}

TEST(HttpClient, DoesNotWaitForEver) {
  ScriptedHttpServer server(
      [](const ScriptedRequest&) { return Answer(503, "", {"Retry-After: 3600"}); });
  EXPECT_EQ(ReasonOf(HttpClient(Quick()).Send(To(server)).status()), Reason::kStorageFailed);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST(HttpClient, TakesAStallAndADripForFailures) {
  for (const size_t drip : {size_t{0}, size_t{1}}) {
    ScriptedHttpServer server([&](const ScriptedRequest& request) {
      ScriptedReply reply = Answer(200, std::string(3000, 'x'));
      if (request.number > 0) return reply;
      reply.drip = drip;
      if (drip == 0) reply.bytes.resize(60);
      reply.then = Then::kStall;
      return reply;
    });
    HttpOptions options = Quick();
    options.slow_for = seconds(1);
    const auto response = HttpClient(options).Send(To(server));
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body.size(), 3000U);
    EXPECT_GE(server.requests().size(), 2U);
  }
}

// Both would wait for an hour.
TEST(HttpClient, AStopEndsWaiting) {
  const auto outcome = [](const ScriptedHttpServer& server, HttpOptions options) {
    std::stop_source stop;
    std::jthread stopper([&] {
      EXPECT_TRUE(Comes([&] { return !server.requests().empty(); }));
      stop.request_stop();
    });
    options.slow_for = std::chrono::hours(1);
    return ReasonOf(
        HttpClient(std::move(options)).Until(stop.get_token()).Send(To(server)).status());
  };
  ScriptedHttpServer silent(
      [](const ScriptedRequest&) { return ScriptedReply{.bytes = "", .then = Then::kStall}; });
  EXPECT_EQ(outcome(silent, Quick()), Reason::kCancelled);
  ScriptedHttpServer busy([](const ScriptedRequest&) { return Answer(503); });
  HttpOptions patient = Quick();
  patient.retry.first_pause = patient.retry.longest_pause = std::chrono::hours(1);
  EXPECT_EQ(outcome(busy, patient), Reason::kCancelled);
}

TEST(HttpClient, RefusesAnswersThatAreTooLarge) {
  ScriptedHttpServer server(
      [](const ScriptedRequest&) { return Answer(200, std::string(1001, 'x')); });
  HttpRequest request = To(server);
  request.max_body = 1000;
  EXPECT_EQ(ReasonOf(HttpClient(Quick()).Send(request).status()), Reason::kStorageFailed);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST(HttpClient, KeepsOnlyTheBeginningOfALargeError) {
  ScriptedHttpServer server(
      [](const ScriptedRequest&) { return Answer(404, std::string(1 << 20, 'x')); });
  const auto response = HttpClient(Quick()).Send(To(server));
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->body.size(), size_t{64} << 10);
}

// Allows every redirect.
HttpRequest Following(HttpRequest request) {
  request.check_redirect = [](const Uri&) { return absl::OkStatus(); };
  return request;
}

TEST(HttpClient, FollowsThreeRedirectsAndNoMore) {
  for (const int count : {1, 3, 4, 1000}) {
    ScriptedHttpServer server([&](const ScriptedRequest& request) {
      if (request.number >= count) return Answer(200, "there");
      return Answer(302, "", {fmt::format("Location: /{}", request.number)});
    });
    const auto response = HttpClient(Quick()).Send(Following(To(server)));
    EXPECT_EQ(response.ok(), count <= 3) << count << " " << response.status();
    EXPECT_LE(server.requests().size(), 4U);
  }
}

TEST(HttpClient, WithoutLeaveARedirectIsJustAnAnswer) {
  ScriptedHttpServer server(
      [](const ScriptedRequest&) { return Answer(301, "", {"Location: /elsewhere"}); });
  const auto response = HttpClient(Quick()).Send(To(server));
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->status, 301);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST(HttpClient, EveryRedirectIsChecked) {
  ScriptedHttpServer server([](const ScriptedRequest& request) {
    return Answer(302, "", {fmt::format("Location: /{}", request.number)});
  });
  HttpRequest request = To(server);
  request.check_redirect = [](const Uri& target) {
    return target.path == "/0" ? absl::OkStatus()
                               : Error(Reason::kPathNotAllowed, target.path, "forbidden");
  };
  EXPECT_EQ(ReasonOf(HttpClient(Quick()).Send(request).status()), Reason::kPathNotAllowed);
  EXPECT_EQ(server.requests().size(), 2U);
  for (const char* location : {"file:///etc/passwd", "gopher://127.0.0.1/", "http://user@host/",
                               "//host\\@evil/", "http:///", ""}) {
    ScriptedHttpServer odd([&](const ScriptedRequest&) {
      return Answer(302, "", {fmt::format("Location: {}", location)});
    });
    EXPECT_EQ(ReasonOf(HttpClient(Quick()).Send(Following(To(odd))).status()),
              *location == '\0' ? Reason::kStorageFailed : Reason::kPathNotAllowed)
        << location;
  }
}

TEST(HttpClient, CredentialsStayWithTheirOrigin) {
  ScriptedHttpServer other([](const ScriptedRequest& request) {
    return request.target == "/stay" ? Answer(200) : Answer(302, "", {"Location: /stay"});
  });
  ScriptedHttpServer server([&](const ScriptedRequest& request) {
    if (request.number == 0) return Answer(302, "", {"Location: /second"});
    return Answer(302, "", {fmt::format("Location: http://127.0.0.1:{}/x", other.port())});
  });
  HttpRequest request = Following(To(server));
  request.authorize = [](HttpRequest& sent) {
    sent.headers.emplace_back("Authorization", "secret");
    return absl::OkStatus();
  };
  ASSERT_TRUE(HttpClient(Quick()).Send(request).ok());
  ASSERT_EQ(server.requests().size(), 2U);
  for (const ScriptedRequest& seen : server.requests()) {
    EXPECT_EQ(seen.headers.at("authorization"), "secret");
  }
  ASSERT_EQ(other.requests().size(), 2U);
  for (const ScriptedRequest& seen : other.requests()) {
    EXPECT_FALSE(seen.headers.contains("authorization"));
  }
}

TEST(HttpClient, ConnectsToNoAddressThatIsNotAllowed) {
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(200, "internal"); });
  const HttpClient client(Quick({}));
  for (const char* host :
       {"127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]"}) {
    const absl::Status status = client.Send(To(server, "/x", "http", host)).status();
    EXPECT_FALSE(status.ok()) << host;
    EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed) << host << " " << status;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("127.0.0.1")));
  }
  EXPECT_EQ(server.connections(), 0);
}

// A name server that answers with an internal address, and one that adds it to a public one.
TEST(HttpClient, ANameThatLeadsInsideLeadsNowhere) {
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(200, "internal"); });
  for (const char* address : {"127.0.0.1", "169.254.169.254", "[::1]"}) {
    HttpOptions options = Quick({});
    options.resolve = {fmt::format("rebound.example:{}:{}", server.port(), address)};
    const absl::Status status =
        HttpClient(options).Send(To(server, "/x", "http", "rebound.example")).status();
    EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed) << address << " " << status;
  }
  EXPECT_EQ(server.connections(), 0);
  HttpOptions allowed = Quick();
  allowed.resolve = {fmt::format("rebound.example:{}:127.0.0.1", server.port())};
  EXPECT_TRUE(HttpClient(allowed).Send(To(server, "/x", "http", "rebound.example")).ok())
      << "or else the test above shows nothing";
}

TEST(HttpClient, ARedirectToAnInternalNameLeadsNowhere) {
  ScriptedHttpServer inside([](const ScriptedRequest&) { return Answer(200, "internal"); });
  ScriptedHttpServer server([&](const ScriptedRequest&) {
    return Answer(302, "", {fmt::format("Location: http://127.0.0.1:{}/latest", inside.port())});
  });
  HttpRequest request = Following(To(server));
  request.any_address = true;  // what holds for an operator's endpoint ends with it
  EXPECT_EQ(ReasonOf(HttpClient(Quick({})).Send(request).status()), Reason::kPathNotAllowed);
  EXPECT_EQ(inside.connections(), 0);
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClient, ChecksCertificates) {
  const TestCertificate authority = MakeAuthority("one");
  const TestCertificate stranger = MakeAuthority("another");
  const TestCertificate identity = MakeCertificate(authority);
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(200, "tls"); }, &identity);
  TemporaryDirectory directory;
  HttpOptions options = Quick();
  options.ca_file = directory.Write("ca.pem", authority.certificate);
  const auto good = HttpClient(options).Send(To(server, "/x", "https", "localhost"));
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->body, "tls");
  options.resolve = {fmt::format("other.example:{}:127.0.0.1", server.port())};
  EXPECT_FALSE(HttpClient(options).Send(To(server, "/x", "https", "other.example")).ok());
  options.ca_file = directory.Write("stranger.pem", stranger.certificate);
  EXPECT_EQ(ReasonOf(HttpClient(options).Send(To(server, "/x", "https", "localhost")).status()),
            Reason::kStorageFailed);
  EXPECT_EQ(server.requests().size(), 1U);
}

TEST(HttpClient, LeavesNoSecureConnectionForAPlainOne) {
  const TestCertificate authority = MakeAuthority("one");
  const TestCertificate identity = MakeCertificate(authority);
  ScriptedHttpServer plain([](const ScriptedRequest&) { return Answer(200, "plain"); });
  ScriptedHttpServer server(
      [&](const ScriptedRequest&) {
        return Answer(302, "", {fmt::format("Location: http://127.0.0.1:{}/x", plain.port())});
      },
      &identity);
  TemporaryDirectory directory;
  HttpOptions options = Quick();
  options.ca_file = directory.Write("ca.pem", authority.certificate);
  const absl::Status status =
      HttpClient(options).Send(Following(To(server, "/x", "https", "localhost"))).status();
  EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed) << status;
  EXPECT_EQ(plain.connections(), 0);
}

TEST(HttpClient, UsesConnectionsAgain) {
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(200); });
  const HttpClient client(Quick());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(client.Send(To(server)).ok());
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClient, TellsItsObserverOfEveryAttempt) {
  std::vector<std::string> seen;
  HttpOptions options = Quick();
  options.observer = [&](std::string_view store, int status) {
    seen.push_back(fmt::format("{} {}", store, status));
  };
  ScriptedHttpServer server([](const ScriptedRequest& request) {
    if (request.number == 0) return ScriptedReply{.bytes = "", .then = Then::kReset};
    if (request.number == 1) return Answer(503);
    return Answer(206);
  });
  ASSERT_TRUE(HttpClient(options).Send(To(server)).ok());
  EXPECT_THAT(seen, ElementsAre("s3 0", "s3 503", "s3 206"));
}

}  // namespace
}  // namespace linchpin
