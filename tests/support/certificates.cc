#include "tests/support/certificates.h"

#include <memory>

#include "openssl/ec.h"
#include "openssl/evp.h"
#include "openssl/pem.h"
#include "openssl/x509.h"
#include "openssl/x509v3.h"

namespace linchpin {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;

std::string Text(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

Bio Reader(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Certificate NewCertificate(const std::string& name, EVP_PKEY* key) {
  static long serial = 1;
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 86'400);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return certificate;
}

void AddExtension(X509* certificate, int kind, const char* value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

TestCertificate Sign(X509* certificate, EVP_PKEY* key, X509_NAME* issuer, EVP_PKEY* issuer_key) {
  X509_set_issuer_name(certificate, issuer);
  X509_sign(certificate, issuer_key, EVP_sha256());
  const Bio certificate_text(BIO_new(BIO_s_mem()));
  const Bio key_text(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_text.get(), certificate);
  PEM_write_bio_PrivateKey(key_text.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return {Text(certificate_text), Text(key_text)};
}

}  // namespace

TestCertificate MakeAuthority(const std::string& name) {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = NewCertificate(name, key.get());
  AddExtension(certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
  return Sign(certificate.get(), key.get(), X509_get_subject_name(certificate.get()), key.get());
}

TestCertificate MakeCertificate(const TestCertificate& authority, const std::string& names,
                                const std::string& key_text) {
  const Key key(key_text.empty()
                    ? EVP_EC_gen("P-256")
                    : PEM_read_bio_PrivateKey(Reader(key_text).get(), nullptr, nullptr, nullptr));
  const Certificate certificate = NewCertificate("localhost", key.get());
  const std::string all = "DNS:localhost,IP:127.0.0.1" + (names.empty() ? "" : "," + names);
  AddExtension(certificate.get(), NID_subject_alt_name, all.c_str());
  const Certificate issuer(
      PEM_read_bio_X509(Reader(authority.certificate).get(), nullptr, nullptr, nullptr));
  const Key issuer_key(
      PEM_read_bio_PrivateKey(Reader(authority.key).get(), nullptr, nullptr, nullptr));
  return Sign(certificate.get(), key.get(), X509_get_subject_name(issuer.get()), issuer_key.get());
}

}  // namespace linchpin
