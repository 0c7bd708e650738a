#include "service/credentials.h"

#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest()
      : authority_(MakeAuthority("tests")),
        pair_(MakeCertificate(authority_)),
        files_{.certificate = directory_.Write("tls.crt", pair_.certificate),
               .key = directory_.Write("tls.key", pair_.key),
               .client_ca = directory_.Write("ca.crt", authority_.certificate)} {}

  std::string MessageFor(const TlsFiles& files) {
    const auto credentials = TlsCredentials(files);
    EXPECT_EQ(ReasonOf(credentials.status()), Reason::kOptionInvalid);
    return std::string(credentials.status().message());
  }

  TemporaryDirectory directory_;
  TestCertificate authority_;
  TestCertificate pair_;
  TlsFiles files_;
};

TEST_F(CredentialsTest, TakesGoodFiles) {
  EXPECT_TRUE(TlsCredentials(files_).ok());
  files_.client_ca.clear();
  EXPECT_TRUE(TlsCredentials(files_).ok());
}

TEST_F(CredentialsTest, NeedsBothCertificateAndKey) {
  EXPECT_FALSE(TlsFiles().given());
  EXPECT_TRUE((TlsFiles{.client_ca = "ca"}).given());
  EXPECT_THAT(MessageFor({.certificate = files_.certificate}), testing::HasSubstr("--tls-key"));
  EXPECT_THAT(MessageFor({.client_ca = files_.client_ca}), testing::HasSubstr("--tls-cert"));
}

TEST_F(CredentialsTest, NamesTheFileThatIsMissingOrWrong) {
  TlsFiles files = files_;
  files.certificate = directory_ / "absent.crt";
  EXPECT_THAT(MessageFor(files), testing::HasSubstr("absent.crt"));
  files = files_;
  files.key = directory_.Write("junk.key", "not a key");
  EXPECT_THAT(MessageFor(files), testing::HasSubstr("junk.key"));
  files = files_;
  files.client_ca = directory_.Write("junk.crt", "not a certificate");
  EXPECT_THAT(MessageFor(files), testing::HasSubstr("junk.crt"));
  files = files_;
  files.key = directory_.Write("other.key", MakeCertificate(authority_).key);
  EXPECT_THAT(MessageFor(files), testing::HasSubstr("not the key of"));
}

}  // namespace
}  // namespace linchpin
