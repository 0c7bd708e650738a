// The read-only steps of the conformance suite on https:// and hf://, over TLS.
#include <map>
#include <mutex>
#include <string>

#include "fmt/format.h"
#include "format/json.h"
#include "storage/http/https_storage.h"
#include "storage/http/hub_storage.h"
#include "tests/support/scripted_http_server.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/storage/storage_conformance.h"

namespace linchpin {
namespace {

const std::string kCommit(40, 'c');

// Serves files at `/NAME` and, as the hub does, at `/owner/model/resolve/COMMIT/NAME`.
class WebBackend : public Backend {
 public:
  void Put(std::string_view name, std::string_view content) override {
    const std::lock_guard lock(mutex_);
    files_[std::string(name)] = content;
  }

 protected:
  HttpClient Client() const {
    HttpOptions options{.addresses = *AddressRule::Create({"127.0.0.1"}),
                        .ca_file = directory_ / "ca.pem"};
    return HttpClient(options);
  }
  std::string Base() const { return fmt::format("https://localhost:{}", server_.port()); }

 private:
  ScriptedReply Serve(const ScriptedRequest& request) {
    const std::lock_guard lock(mutex_);
    if (request.target == "/api/models/owner/model/revision/main?blobs=true") return Model();
    std::string name = request.target.substr(1);
    const std::string at_commit = "owner/model/resolve/" + kCommit + "/";
    if (name.starts_with(at_commit)) name.erase(0, at_commit.size());
    const auto file = files_.find(name);
    return file == files_.end() ? Answer(404) : ServeFile(request, file->second);
  }
  ScriptedReply Model() const {
    Json model = {{"sha", kCommit}, {"siblings", Json::array()}};
    for (const auto& [name, content] : files_) {
      model["siblings"].push_back({{"rfilename", name}, {"size", content.size()}});
    }
    return Answer(200, model.dump());
  }

  const TestCertificate authority_ = MakeAuthority("web conformance");
  const TestCertificate identity_ = MakeCertificate(authority_);
  TemporaryDirectory directory_;
  const std::string ca_file_ = directory_.Write("ca.pem", authority_.certificate);
  std::mutex mutex_;
  std::map<std::string, std::string> files_;  // guarded by mutex_
  ScriptedHttpServer server_{[this](const ScriptedRequest& request) { return Serve(request); },
                             &identity_};
};

class HttpsBackend : public WebBackend {
 public:
  const Storage& storage() const override { return storage_; }
  std::string Path(std::string_view name) const override {
    return fmt::format("{}/{}", Base(), name);
  }

 private:
  const HttpsStorage storage_{Client(), {*ParseUri(Base())}};
};

class HubBackend : public WebBackend {
 public:
  const Storage& storage() const override { return storage_; }
  std::string Path(std::string_view name) const override {
    return fmt::format("hf://owner/model/{}", name);
  }

 private:
  const HubStorage storage_{Client(), {.endpoint = *ParseEndpoint(Base())}};
};

INSTANTIATE_TEST_SUITE_P(Https, ReadConformance, ::testing::Values(&Make<HttpsBackend>));
INSTANTIATE_TEST_SUITE_P(Hub, ReadConformance, ::testing::Values(&Make<HubBackend>));
INSTANTIATE_TEST_SUITE_P(Hub, ListConformance, ::testing::Values(&Make<HubBackend>));

}  // namespace
}  // namespace linchpin
