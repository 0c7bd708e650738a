// How long a writer's mark and its leftovers count, by the clock of a store that a test sets.
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/s3/s3_output.h"
#include "tests/support/scripted_http_server.h"

namespace linchpin {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kMark = "out/.linchpin-commit";
constexpr const char* kHttpTime = "%a, %d %b %Y %H:%M:%S GMT";
constexpr const char* kIsoTime = "%Y-%m-%dT%H:%M:%S.000Z";

std::string TimeText(SystemTime time, const char* format) {
  const std::time_t whole = std::chrono::system_clock::to_time_t(time);
  std::tm parts;
  gmtime_r(&whole, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof(text), format, &parts)};
}

// The objects of s3://bucket by key, with a clock.  Touched by its server's threads, and by a
// test while nothing is asked.
struct AgingStore {
  struct Object {
    std::string content;
    SystemTime modified;
  };

  ScriptedReply Reply(const ScriptedRequest& request) {
    if (before) before(request);
    const bool lists = request.target.find("list-type") != std::string::npos;
    if (lists) return Answer(200, Listing());
    const std::string key = request.target.substr(std::string("/bucket/").size());
    if (request.method == "PUT") return Put(key, request);
    const auto found = objects.find(key);
    if (request.method == "DELETE") return objects.erase(key), Answer(204);
    if (found == objects.end()) return Answer(404);
    ScriptedReply reply = Answer(200, found->second.content, Headers(found->second));
    if (request.method == "HEAD") reply.bytes.resize(reply.bytes.find("\r\n\r\n") + 4);
    return reply;
  }
  ScriptedReply Put(const std::string& key, const ScriptedRequest& request) {
    if (request.headers.contains("if-none-match") && objects.contains(key)) return Answer(412);
    const auto from = request.headers.find("x-amz-copy-source");
    if (from == request.headers.end()) {
      objects[key] = {request.body, now};
      return Answer(200, "", {"ETag: \"e\""});
    }
    objects[key] = {objects.at(from->second.substr(std::string("/bucket/").size())).content, now};
    return Answer(200, "<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>");
  }
  std::vector<std::string> Headers(const Object& object) const {
    std::vector<std::string> headers = {"ETag: \"e\""};
    if (tells_ages) headers.push_back("Last-Modified: " + TimeText(object.modified, kHttpTime));
    if (tells_time) headers.push_back("Date: " + TimeText(now, kHttpTime));
    return headers;
  }
  std::string Listing() const {
    std::string xml = "<ListBucketResult>";
    for (const auto& [key, object] : objects) {
      xml += fmt::format("<Contents><Key>{}</Key><Size>{}</Size>", key, object.content.size());
      if (tells_ages) {
        xml += fmt::format("<LastModified>{}</LastModified>", TimeText(object.modified, kIsoTime));
      }
      xml += "</Contents>";
    }
    return xml + "</ListBucketResult>";
  }
  SystemTime::duration MarkAge() const {
    const auto mark = objects.find(std::string(kMark));
    return mark == objects.end() ? seconds(0) : now - mark->second.modified;
  }

  SystemTime now = std::chrono::system_clock::now();
  bool tells_time = true;
  bool tells_ages = true;
  std::map<std::string, Object> objects;
  std::function<void(const ScriptedRequest&)> before;  // a request is answered
};

class S3LeasesTest : public ::testing::Test {
 protected:
  S3Client Client() const {
    HttpOptions options{.addresses = *AddressRule::Create({"127.0.0.1"})};
    options.retry = {.attempts = 1};
    return {HttpClient(options),
            {.endpoint = *ParseEndpoint(fmt::format("http://127.0.0.1:{}", server_.port())),
             .path_style = true},
            std::make_shared<FixedCredentials>(AwsCredentials{"key", "secret"})};
  }
  // An object of such an age by the store's clock.
  void Age(std::string_view key, SystemTime::duration age, std::string content = "old") {
    store_.objects[std::string(key)] = {std::move(content), store_.now - age};
  }
  auto Create(bool overwrite = false) const {
    return storage_.CreateDirectory("s3://bucket/out", overwrite);
  }
  static void Write(OutputDirectory& output, std::string_view name) {
    const auto file = output.CreateFile(name, 3);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE((*file)->WriteAt(0, {reinterpret_cast<const std::byte*>("new"), 3}).ok());
  }
  std::vector<std::string> Keys() const {
    std::vector<std::string> keys;
    for (const auto& [key, object] : store_.objects) keys.push_back(key);
    return keys;
  }
  // Somebody died, or is at work, with one file in place: whether another may write there.
  void ExpectRespected(SystemTime::duration age) {
    auto early = Create();  // before the other set its mark
    ASSERT_TRUE(early.ok()) << early.status();
    Write(**early, "linchpin.json");
    Age(kMark, age, "somebody");
    Age("out/a", age);
    for (const absl::Status& status :
         {Create(false).status(), Create(true).status(), (*early)->Commit()}) {
      EXPECT_EQ(ReasonOf(status), Reason::kStorageFailed) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("another writer"));
    }
    early->reset();
    EXPECT_THAT(Keys(), ElementsAre(kMark, "out/a"));
    EXPECT_EQ(store_.objects[std::string(kMark)].content, "somebody");
  }
  void ExpectVoid(SystemTime::duration age) {
    Age(kMark, age, "somebody");
    Age("out/a", age);
    auto output = Create();
    ASSERT_TRUE(output.ok()) << output.status();
    Write(**output, "b");
    Write(**output, "linchpin.json");
    const absl::Status status = (*output)->Commit();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_THAT(Keys(), ElementsAre("out/b", "out/linchpin.json"));
  }

  AgingStore store_;
  ScriptedHttpServer server_{
      [this](const ScriptedRequest& request) { return store_.Reply(request); }};
  const S3Storage storage_{Client()};
};

TEST_F(S3LeasesTest, AMarkIsRespectedForTenMinutes) {
  for (const seconds age : {seconds(0), seconds(599), seconds(600)}) {
    SCOPED_TRACE(age.count());
    store_.objects.clear();
    ExpectRespected(age);
  }
}

TEST_F(S3LeasesTest, AfterTenMinutesAMarkIsVoid) {
  for (const seconds age : {seconds(601), seconds(hours(1000))}) {
    SCOPED_TRACE(age.count());
    store_.objects.clear();
    ExpectVoid(age);
  }
}

TEST_F(S3LeasesTest, TheClockOfTheStoreCountsWhateverOursSays) {
  for (const hours ahead : {hours(-3), hours(3)}) {
    SCOPED_TRACE(ahead.count());
    store_.now = std::chrono::system_clock::now() + ahead;
    store_.objects.clear();
    ExpectRespected(seconds(599));
    store_.objects.clear();
    ExpectVoid(seconds(601));
  }
}

TEST_F(S3LeasesTest, OursCountsWhereTheStoreTellsNoTime) {
  store_.tells_time = false;
  ExpectRespected(minutes(9));
  store_.objects.clear();
  ExpectVoid(minutes(11));
}

TEST_F(S3LeasesTest, AMarkOfUnknownAgeIsRespected) {
  store_.tells_ages = false;
  ExpectRespected(hours(1000));
}

TEST_F(S3LeasesTest, OfTwoWhoFindAVoidMarkOneWins) {
  Age(kMark, minutes(11), "somebody");
  Age("out/a", minutes(11));
  auto first = Create();
  auto second = Create();
  ASSERT_TRUE(first.ok() && second.ok());
  Write(**first, "linchpin.json");
  Write(**second, "linchpin.json");
  EXPECT_TRUE((*second)->Commit().ok());
  EXPECT_EQ(ReasonOf((*first)->Commit()), Reason::kOutputExists);
  first->reset();
  EXPECT_THAT(Keys(), ElementsAre("out/linchpin.json"));
}

// A listing of six minutes, then a copy of six: twelve in all, and nobody may take the place.
TEST_F(S3LeasesTest, AWriterAtALongCommitKeepsItsMarkYoung) {
  Age("source/large", hours(1));
  auto output = Create();
  ASSERT_TRUE(output.ok()) << output.status();
  const auto large = storage_.Open("s3://bucket/source/large");
  ASSERT_TRUE(large.ok()) << large.status();
  ASSERT_TRUE((*output)->TakeFile("large", **large, {}).ok());
  Write(**output, "linchpin.json");
  SystemTime::duration oldest{};
  const SystemTime begin = store_.now;
  store_.before = [&](const ScriptedRequest& request) {
    const bool slow = request.headers.contains("x-amz-copy-source") ||
                      request.target.find("list-type") != std::string::npos;
    if (slow) store_.now += minutes(6);
    oldest = std::max(oldest, store_.MarkAge());
  };
  const absl::Status status = (*output)->Commit();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(store_.now - begin, minutes(12));
  EXPECT_EQ(oldest, minutes(6));
  EXPECT_THAT(Keys(), ElementsAre("out/large", "out/linchpin.json", "source/large"));
}

TEST_F(S3LeasesTest, WhatADeadWriterLeftIsRemovedAfterADayAndNotBefore) {
  Age("out/.linchpin-stage-young/model.safetensors", hours(24) - minutes(5));
  Age("out/.linchpin-stage-dead/model.safetensors", hours(24) + minutes(5));
  Age("out/.linchpin-stage-dead/linchpin.json", hours(1000));
  Age("out/.other", hours(1000));
  Age("out2/.linchpin-stage-dead/a", hours(1000));
  ASSERT_TRUE(Create().ok());
  EXPECT_THAT(Keys(), ElementsAre("out/.linchpin-stage-young/model.safetensors", "out/.other",
                                  "out2/.linchpin-stage-dead/a"));
}

// Its age, longer than nanoseconds can count, came out as less than nothing.
TEST_F(S3LeasesTest, WhatWasLeftAtTheEarliestTimeIsRemoved) {
  store_.objects["out/.linchpin-stage-dead/a"] = {"old", SystemTime::min()};
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(Keys().empty());
}

TEST_F(S3LeasesTest, WhatStandsInTheOutputIsNoLeftover) {
  Age("out/a", hours(1000));
  Age("out/linchpin-stage-a/b", hours(1000));
  ASSERT_TRUE(Create(true).ok());
  EXPECT_EQ(Keys().size(), 2U);
}

TEST_F(S3LeasesTest, WhatHasNoAgeIsNotRemoved) {
  store_.tells_ages = false;
  Age("out/.linchpin-stage-dead/model.safetensors", hours(1000));
  ASSERT_TRUE(Create().ok());
  EXPECT_EQ(Keys().size(), 1U);
}

}  // namespace
}  // namespace linchpin
