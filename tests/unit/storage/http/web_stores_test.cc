// https:// and hf:// against a server under TLS that speaks as they do.
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/http/https_storage.h"
#include "storage/http/hub_storage.h"
#include "tests/support/scripted_http_server.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

const std::string kCommit(40, 'a');
const std::string kNewCommit(40, 'b');

class WebStoresTest : public ::testing::Test {
 protected:
  HttpClient Client(const std::string& host = "localhost") const {
    HttpOptions options{.addresses = *AddressRule::Create({"127.0.0.1"}),
                        .ca_file = directory_ / "ca.pem"};
    options.retry = {.attempts = 2, .first_pause = std::chrono::milliseconds(1)};
    options.resolve = {fmt::format("{}:{}:127.0.0.1", host, server_.port())};
    return HttpClient(options);
  }
  std::string Base() const { return fmt::format("https://localhost:{}", server_.port()); }
  HttpsStorage Web(const std::string& prefix = "/models") const {
    return {Client(), {*ParseUri(Base() + prefix)}};
  }
  HubStorage Hub() const {
    return {Client(), {.endpoint = *ParseEndpoint(Base()), .token = "hf_secret"}};
  }

  const TestCertificate authority_ = MakeAuthority("web stores");
  const TestCertificate identity_ = MakeCertificate(authority_);
  TemporaryDirectory directory_;
  std::string ca_file_ = directory_.Write("ca.pem", authority_.certificate);
  std::map<std::string, std::string> files_ = {{"/models/a.gguf", "0123456789"}};
  std::map<std::string, std::string> redirects_;
  std::string head_ = kCommit;  // of the hub's main
  ScriptedHttpServer server_{
      [this](const ScriptedRequest& request) {
        if (const auto to = redirects_.find(request.target); to != redirects_.end()) {
          return Answer(302, "", {"Location: " + to->second});
        }
        const std::string api = "/api/models/owner/model/revision/";
        if (request.target.starts_with(api)) return HubAnswer(request.target.substr(api.size()));
        const auto file = files_.find(request.target);
        return file == files_.end() ? Answer(404, "no") : ServeFile(request, file->second);
      },
      &identity_};

 private:
  // The form in which huggingface.co answers, cut to what is read and some of what is not.
  ScriptedReply HubAnswer(const std::string& revision) {
    if (revision != "main?blobs=true" && revision != "v1?blobs=true") return Answer(404, "{}");
    return Answer(200, fmt::format(R"({{"_id":"x","id":"owner/model","private":false,"sha":"{}",
"tags":["gguf"],"siblings":[{{"rfilename":"sub/deep/b.txt","size":3}},
{{"rfilename":".gitattributes","size":1519,"blobId":"0"}},
{{"rfilename":"config.json","size":2,"lfs":{{"sha256":"x","size":2,"pointerSize":1}}}}]}})",
                                   head_));
  }
};

TEST_F(WebStoresTest, HttpsReadsAFile) {
  const auto file = Web().Open(Base() + "/models/a.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 10U);
  EXPECT_EQ(ReadText(Web(), Base() + "/models/a.gguf", 100).value(), "0123456789");
  EXPECT_FALSE(Web().IsDirectory(Base() + "/models/a.gguf").value());
  EXPECT_EQ(ReasonOf(Web().Open(Base() + "/models/none").status()), Reason::kSourceNotFound);
  EXPECT_EQ(ReasonOf(Web().IsDirectory(Base() + "/models").status()), Reason::kSourceNotFound);
}

TEST_F(WebStoresTest, HttpsListsAndWritesNothing) {
  EXPECT_EQ(ReasonOf(Web().List(Base() + "/models").status()), Reason::kFeatureUnsupported);
  EXPECT_EQ(ReasonOf(Web().CreateDirectory(Base() + "/models/out", true).status()),
            Reason::kPathNotAllowed);
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(WebStoresTest, HttpsFollowsRedirectsBeneathItsPrefixesOnly) {
  redirects_ = {{"/models/inside", "/models/a.gguf"},
                {"/models/signed", "/models/a.gguf?sig=planted"},
                {"/models/outside", "/private/a.gguf"},
                {"/models/loop", "/models/loop"},
                {"/models/up", Base() + "/models/../private/a.gguf"},
                {"/models/away", "https://other.example/models/a.gguf"},
                {"/models/metadata", "http://169.254.169.254/latest"}};
  files_["/models/a.gguf?sig=planted"] = "signed";
  files_["/private/a.gguf"] = "private";
  const HttpsStorage web = Web();
  EXPECT_EQ(ReadText(web, Base() + "/models/inside", 100).value(), "0123456789");
  EXPECT_EQ(ReadText(web, Base() + "/models/signed", 100).value(), "signed");
  for (const char* path : {"outside", "up", "away", "metadata"}) {
    EXPECT_EQ(ReasonOf(web.Open(Base() + "/models/" + path).status()), Reason::kPathNotAllowed)
        << path;
  }
  EXPECT_EQ(ReasonOf(web.Open(Base() + "/models/loop").status()), Reason::kStorageFailed);
  for (const ScriptedRequest& request : server_.requests()) {
    EXPECT_FALSE(request.target.starts_with("/private")) << request.target;
  }
}

TEST_F(WebStoresTest, TheHubListsAModelAtItsCommit) {
  const HubStorage hub = Hub();
  const auto files = hub.List("hf://owner/model");
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_EQ(files->size(), 2U) << "without the hidden one";
  EXPECT_EQ((*files)[0].name, "config.json");
  EXPECT_EQ((*files)[1].name, "sub/deep/b.txt");
  EXPECT_EQ((*files)[1].size, 3U);
  EXPECT_EQ(hub.List("hf://owner/model/sub")->at(0).name, "deep/b.txt");
  EXPECT_TRUE(hub.IsDirectory("hf://owner/model@v1").value());
  EXPECT_TRUE(hub.IsDirectory("hf://owner/model/sub").value());
  EXPECT_FALSE(hub.IsDirectory("hf://owner/model/config.json").value());
  EXPECT_EQ(ReasonOf(hub.IsDirectory("hf://owner/model/none").status()), Reason::kSourceNotFound);
  EXPECT_EQ(ReasonOf(hub.List("hf://owner/model@v2").status()), Reason::kSourceNotFound);
  EXPECT_EQ(ReasonOf(hub.List("hf://owner").status()), Reason::kSourceNotFound);
  EXPECT_EQ(ReasonOf(hub.Open("hf://owner/model/sub").status()), Reason::kPathNotAllowed);
  EXPECT_EQ(ReasonOf(hub.CreateDirectory("hf://owner/model", true).status()),
            Reason::kPathNotAllowed);
}

TEST_F(WebStoresTest, AJobStaysAtOneCommitWhateverIsPushed) {
  files_["/owner/model/resolve/" + kCommit + "/config.json"] = "{}";
  files_["/owner/model/resolve/" + kNewCommit + "/config.json"] = "[]";
  const HubStorage hub = Hub();
  const auto first = hub.UntilStopped({});
  EXPECT_EQ(ReadText(*first, "hf://owner/model/config.json", 10).value(), "{}");
  head_ = kNewCommit;
  EXPECT_EQ(ReadText(*first, "hf://owner/model/config.json", 10).value(), "{}");
  const auto second = hub.UntilStopped({});
  EXPECT_EQ(ReadText(*second, "hf://owner/model/config.json", 10).value(), "[]");
}

TEST_F(WebStoresTest, TheTokenGoesToTheHubAlone) {
  const TestCertificate identity = MakeCertificate(authority_);
  ScriptedHttpServer elsewhere([](const ScriptedRequest&) { return Answer(200); }, &identity);
  const std::string path = "/owner/model/resolve/" + kCommit + "/config.json";
  redirects_[path] = fmt::format("https://localhost:{}/file", elsewhere.port());
  const absl::Status status = Hub().Open("hf://owner/model/config.json").status();
  EXPECT_EQ(ReasonOf(status), Reason::kPathNotAllowed) << "not a domain of the hub";
  EXPECT_EQ(elsewhere.connections(), 0);
  for (const ScriptedRequest& request : server_.requests()) {
    EXPECT_EQ(request.headers.at("authorization"), "Bearer hf_secret");
  }
  EXPECT_EQ(std::string(status.message()).find("hf_secret"), std::string::npos);
  redirects_[path] = "/cdn/file?sig=1";
  files_["/cdn/file?sig=1"] = "{}";
  EXPECT_EQ(ReadText(Hub(), "hf://owner/model/config.json", 10).value(), "{}");
}

TEST_F(WebStoresTest, RefusesAHubThatTalksNonsense) {
  for (const std::string& body :
       {std::string("<html>"), std::string("[]"), std::string("{}"),
        std::string(R"({"sha":"../../x","siblings":[]})"), R"({"sha":")" + kCommit + R"("})",
        R"({"sha":")" + kCommit + R"(","siblings":[{"rfilename":"../x"}]})",
        R"({"sha":")" + kCommit + R"(","siblings":[{"rfilename":"/etc/passwd"}]})",
        R"({"sha":")" + kCommit + R"(","siblings":[1]})"}) {
    ScriptedHttpServer odd([&](const ScriptedRequest&) { return Answer(200, body); });
    const HubStorage hub(
        Client(), {.endpoint = *ParseEndpoint(fmt::format("http://127.0.0.1:{}", odd.port()))});
    EXPECT_EQ(ReasonOf(hub.List("hf://owner/model").status()), Reason::kStorageFailed) << body;
  }
}

}  // namespace
}  // namespace linchpin
