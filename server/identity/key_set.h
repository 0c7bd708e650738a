// The public keys that an issuer signs its tokens with: a JSON Web Key Set
// (RFC 7517) of RSA and P-256 keys.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "openssl/types.h"

namespace linchpin {

// The only two that are taken (RFC 7518): RSASSA-PKCS1-v1_5 with SHA-256, and
// ECDSA on P-256 with SHA-256.
enum class SignatureAlgorithm { kRs256, kEs256 };

// Immutable; thread-safe.
class KeySet {
 public:
  // `file` is named in errors.  OPTION_INVALID for malformed JSON, for no key
  // of the two kinds, and for one of them that is malformed or weak (RSA below
  // 2048 bits).  Keys of other kinds and for other uses are left out.
  static absl::StatusOr<KeySet> Parse(std::string_view file, std::string_view text);

  // Whether one of the keys made `signature` over `message`: those called `id`,
  // or all of them where a token names none.  `signature` is as a token has it:
  // for ES256 the two numbers, 32 bytes each.
  bool Verify(SignatureAlgorithm algorithm, std::string_view id, std::string_view message,
              std::string_view signature) const;

  size_t size() const { return keys_.size(); }

 private:
  struct Key {
    std::string id;  // may be empty
    SignatureAlgorithm algorithm;
    std::shared_ptr<EVP_PKEY> key;
  };

  std::vector<Key> keys_;
};

// Base64url without padding (RFC 7515); false for anything else.
bool DecodeBase64Url(std::string_view text, std::string& bytes);

}  // namespace linchpin
