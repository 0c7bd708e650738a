#include "tests/support/signed_tokens.h"

#include <ctime>
#include <vector>

#include "absl/strings/escaping.h"
#include "openssl/bn.h"
#include "openssl/core_names.h"
#include "openssl/ec.h"
#include "openssl/ecdsa.h"
#include "openssl/evp.h"
#include "openssl/rsa.h"

namespace linchpin {
namespace {

std::string Bytes(const BIGNUM* number, int size) {
  std::string bytes(static_cast<size_t>(size), '\0');
  BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), size);
  return bytes;
}

std::string Parameter(EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  EVP_PKEY_get_bn_param(key, name, &number);
  const std::string text = EncodeBase64Url(Bytes(number, BN_num_bytes(number)));
  BN_free(number);
  return text;
}

// DER to the two numbers side by side.
std::string RawSignature(const std::string& der) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* signature = d2i_ECDSA_SIG(nullptr, &bytes, static_cast<long>(der.size()));
  const std::string raw =
      Bytes(ECDSA_SIG_get0_r(signature), 32) + Bytes(ECDSA_SIG_get0_s(signature), 32);
  ECDSA_SIG_free(signature);
  return raw;
}

}  // namespace

std::string EncodeBase64Url(const std::string& bytes) {
  std::string text;
  absl::WebSafeBase64Escape(bytes, &text);
  return text.substr(0, text.find('='));
}

TokenIssuer::TokenIssuer(const std::string& algorithm, std::string key_id, int rsa_bits)
    : algorithm_(algorithm),
      key_id_(std::move(key_id)),
      key_(
          algorithm == "ES256" ? EVP_EC_gen("P-256") : EVP_RSA_gen(static_cast<unsigned>(rsa_bits)),
          EVP_PKEY_free) {}

std::string TokenIssuer::Jwk() const {
  const std::string head = R"({"kid":")" + key_id_ + R"(","use":"sig","alg":")" + algorithm_ + '"';
  if (algorithm_ == "RS256") {
    return head + R"(,"kty":"RSA","n":")" + Parameter(key_.get(), OSSL_PKEY_PARAM_RSA_N) +
           R"(","e":")" + Parameter(key_.get(), OSSL_PKEY_PARAM_RSA_E) + "\"}";
  }
  unsigned char point[65];
  size_t size = 0;
  EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &size);
  const std::string text(reinterpret_cast<char*>(point), size);
  return head + R"(,"kty":"EC","crv":"P-256","x":")" + EncodeBase64Url(text.substr(1, 32)) +
         R"(","y":")" + EncodeBase64Url(text.substr(33)) + "\"}";
}

std::string TokenIssuer::Sign(const std::string& header, const std::string& claims) const {
  const std::string message = EncodeBase64Url(header) + "." + EncodeBase64Url(claims);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  size_t size = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(message.data());
  EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key_.get());
  EVP_DigestSign(context, nullptr, &size, bytes, message.size());
  std::string signature(size, '\0');
  EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size, bytes,
                 message.size());
  EVP_MD_CTX_free(context);
  signature.resize(size);
  return message + "." +
         EncodeBase64Url(algorithm_ == "ES256" ? RawSignature(signature) : signature);
}

std::string TokenIssuer::Token(const std::string& claims) const {
  return Sign(R"({"typ":"JWT","alg":")" + algorithm_ + R"(","kid":")" + key_id_ + "\"}", claims);
}

std::string TokenIssuer::TokenFor(const std::string& subject) const {
  return Token(R"({"iss":"issuer","aud":"linchpin","sub":")" + subject + R"(","exp":)" +
               std::to_string(std::time(nullptr) + 3600) + "}");
}

}  // namespace linchpin
