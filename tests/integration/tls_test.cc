// TLS: who may call, and where plaintext is refused.
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/fake_backend.h"
#include "tests/support/fake_engine.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

class TlsTest : public testing::Test {
 protected:
  TlsFiles Files(bool mutual) {
    return {.certificate = directory_.Write("tls.crt", server_pair_.certificate),
            .key = directory_.Write("tls.key", server_pair_.key),
            .client_ca = mutual ? directory_.Write("ca.crt", authority_.certificate) : ""};
  }
  RunningServerOptions Options(bool mutual) {
    return {.listen = "127.0.0.1:0", .tls = Files(mutual)};
  }

  grpc::Status Call(const RunningServer& server, const TestCertificate* client) {
    grpc::SslCredentialsOptions options{.pem_root_certs = authority_.certificate};
    if (client != nullptr) {
      options.pem_private_key = client->key;
      options.pem_cert_chain = client->certificate;
    }
    return CallWith(server, grpc::SslCredentials(options));
  }
  grpc::Status CallWith(const RunningServer& server,
                        const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const auto stub =
        v1::CompressionService::NewStub(grpc::CreateChannel(server.address(), credentials));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    v1::GetCapabilitiesResponse response;
    return stub->GetCapabilities(&context, {}, &response);
  }

  TemporaryDirectory directory_;
  TestCertificate authority_ = MakeAuthority("authority");
  TestCertificate server_pair_ = MakeCertificate(authority_);
  FakeEngine fake_;
};

TEST_F(TlsTest, ServesCallersThatTrustTheCertificate) {
  RunningServer server(fake_.engine(), Options(/*mutual=*/false));
  const grpc::Status status = Call(server, nullptr);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(TlsTest, RefusesPlaintext) {
  RunningServer server(fake_.engine(), Options(/*mutual=*/false));
  EXPECT_FALSE(CallWith(server, grpc::InsecureChannelCredentials()).ok());
}

TEST_F(TlsTest, MutualTlsServesOnlyWhoHasACertificate) {
  RunningServer server(fake_.engine(), Options(/*mutual=*/true));
  EXPECT_FALSE(Call(server, nullptr).ok());
  const TestCertificate stranger = MakeCertificate(MakeAuthority("other"));
  EXPECT_FALSE(Call(server, &stranger).ok());
  const TestCertificate known = MakeCertificate(authority_);
  const grpc::Status status = Call(server, &known);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

// What RpcServer::Start says to `listen`.
absl::Status Start(const std::string& listen) {
  FakeBackend fake;
  return RpcServer::Start({.listen = {listen}}, fake.backend).status();
}

TEST(Plaintext, IsRefusedWhereOthersCouldReachIt) {
  for (const char* listen : {"0.0.0.0:0", "[::]:0", "192.0.2.1:50051"}) {
    const absl::Status status = Start(listen);
    EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid) << listen;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("--tls-cert")) << listen;
  }
}

TEST(Plaintext, IsSpokenOnLoopback) { EXPECT_TRUE(Start("127.0.0.1:0").ok()); }

TEST(Listening, SaysThatAnAddressIsInUse) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {.listen = "127.0.0.1:0"});
  const absl::Status status = Start(server.address());
  EXPECT_EQ(ReasonOf(status), Reason::kOptionInvalid);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(server.address()));
}

TEST(Listening, TheSocketIsItsOwnersAlone) {
  FakeEngine fake;
  RunningServer server(fake.engine(), {});
  const std::string path = server.address().substr(std::string("unix:").size());
  EXPECT_EQ(std::filesystem::status(path).permissions() & std::filesystem::perms(0077),
            std::filesystem::perms::none);
}

}  // namespace
}  // namespace linchpin
