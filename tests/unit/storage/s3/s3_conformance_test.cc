// The conformance suite on real S3 servers, one of them over TLS, and in Google's dialect.
#include <atomic>

#include "storage/s3/s3_storage.h"
#include "tests/support/s3_server.h"
#include "tests/unit/storage/storage_conformance.h"

namespace linchpin {
namespace {

class S3Backend : public Backend {
 public:
  explicit S3Backend(S3Server& server)
      : client_(server.Client()), storage_(client_), place_(NewPlace()) {}
  const Storage& storage() const override { return storage_; }
  std::string Path(std::string_view name) const override {
    return "s3://models/" + place_ + "/" + std::string(name);
  }
  void Put(std::string_view name, std::string_view content) override {
    const absl::Status status = client_.Put(
        *ParseUri(Path(name)), {reinterpret_cast<const std::byte*>(content.data()), content.size()},
        /*create=*/false);
    ASSERT_TRUE(status.ok()) << status;
  }

 private:
  static std::string NewPlace() {
    static std::atomic<int> number = 0;
    // s3rver does not decode all of the source of a copy, such as %2B.
    return "conformance/a bü~" + std::to_string(++number);
  }

  const S3Client client_;
  const S3Storage storage_;
  const std::string place_;
};

std::unique_ptr<Backend> OnS3rver() { return std::make_unique<S3Backend>(S3Server::S3rver()); }
std::unique_ptr<Backend> OnMoto() { return std::make_unique<S3Backend>(S3Server::Moto()); }
std::unique_ptr<Backend> OnGoogle() { return std::make_unique<S3Backend>(S3Server::Google()); }

#define RUN_EVERY_STEP(name, make)                                          \
  INSTANTIATE_TEST_SUITE_P(name, ReadConformance, ::testing::Values(make)); \
  INSTANTIATE_TEST_SUITE_P(name, ListConformance, ::testing::Values(make)); \
  INSTANTIATE_TEST_SUITE_P(name, StorageConformance, ::testing::Values(make))

RUN_EVERY_STEP(S3rver, &OnS3rver);
RUN_EVERY_STEP(MotoOverTls, &OnMoto);
RUN_EVERY_STEP(Google, &OnGoogle);

}  // namespace
}  // namespace linchpin
