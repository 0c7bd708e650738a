#include "service/credentials.h"

#include "base/status.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"
#include "openssl/err.h"
#include "openssl/pem.h"
#include "openssl/x509.h"

namespace linchpin {
namespace {

struct Free {
  void operator()(BIO* file) const { BIO_free(file); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

absl::Status Refuse(std::string_view option, const std::string& file, std::string_view why,
                    std::string_view remedy) {
  ERR_clear_error();
  return Error(Reason::kOptionInvalid, std::string(option) + " " + file, why, remedy);
}

absl::StatusOr<Owned<X509>> ReadCertificate(std::string_view option, const std::string& file) {
  const Owned<BIO> input(BIO_new_file(file.c_str(), "r"));
  if (input == nullptr) {
    return Refuse(option, file, "it cannot be read", "give a PEM file that the server may read");
  }
  Owned<X509> certificate(PEM_read_bio_X509(input.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return Refuse(option, file, "it holds no certificate",
                  "give a PEM file with CERTIFICATE in it");
  }
  return certificate;
}

absl::Status CheckFiles(const TlsFiles& files) {
  if (files.certificate.empty() || files.key.empty()) {
    return Error(Reason::kOptionInvalid, "TLS", "a certificate or its key is missing",
                 "give both --tls-cert and --tls-key");
  }
  ASSIGN_OR_RETURN(const auto certificate, ReadCertificate("--tls-cert", files.certificate));
  const Owned<BIO> input(BIO_new_file(files.key.c_str(), "r"));
  const Owned<EVP_PKEY> key(input == nullptr
                                ? nullptr
                                : PEM_read_bio_PrivateKey(
                                      input.get(), nullptr,
                                      // Never ask a terminal for a pass phrase.
                                      [](char*, int, int, void*) { return 0; }, nullptr));
  if (key == nullptr) {
    return Refuse("--tls-key", files.key, "it cannot be read or holds no plain private key",
                  "give a PEM file without a pass phrase");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Refuse("--tls-key", files.key, "it is not the key of " + files.certificate,
                  "give the two files that belong together");
  }
  if (files.client_ca.empty()) return absl::OkStatus();
  return ReadCertificate("--tls-client-ca", files.client_ca).status();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsCredentials(const TlsFiles& files) {
  RETURN_IF_ERROR(CheckFiles(files));
  namespace tls = grpc::experimental;
  const auto provider = std::make_shared<tls::FileWatcherCertificateProvider>(
      files.key, files.certificate, files.client_ca, files.reload_seconds);
  tls::TlsServerCredentialsOptions options(provider);
  options.watch_identity_key_cert_pairs();
  if (!files.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return tls::TlsServerCredentials(options);
}

}  // namespace linchpin
