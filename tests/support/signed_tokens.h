// An issuer of JSON Web Tokens for tests, with keys made on the spot.
#pragma once

#include <memory>
#include <string>

#include "openssl/types.h"

namespace linchpin {

// Signs with one key.  `algorithm` is "RS256" or "ES256".
class TokenIssuer {
 public:
  explicit TokenIssuer(const std::string& algorithm, std::string key_id = "key-1",
                       int rsa_bits = 2048);

  // The public key as an entry of a JSON Web Key Set, and a set of it alone.
  std::string Jwk() const;
  std::string KeySet() const { return R"({"keys":[)" + Jwk() + "]}"; }

  // A token of any header and claims, signed as the algorithm says whatever the
  // header claims.
  std::string Sign(const std::string& header, const std::string& claims) const;
  // The same with the header that fits.
  std::string Token(const std::string& claims) const;
  // A good one of "issuer" for "linchpin", valid for an hour.
  std::string TokenFor(const std::string& subject) const;

 private:
  const std::string algorithm_;
  const std::string key_id_;
  std::shared_ptr<EVP_PKEY> key_;
};

std::string EncodeBase64Url(const std::string& bytes);

}  // namespace linchpin
