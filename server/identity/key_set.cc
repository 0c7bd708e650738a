#include "identity/key_set.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status.h"
#include "fmt/format.h"
#include "format/json.h"
#include "openssl/bn.h"
#include "openssl/core_names.h"
#include "openssl/ecdsa.h"
#include "openssl/err.h"
#include "openssl/evp.h"
#include "openssl/param_build.h"

namespace linchpin {
namespace {

constexpr int kMinRsaBits = 2048;
constexpr size_t kCoordinateBytes = 32;  // of P-256

struct Free {
  void operator()(BIGNUM* number) const { BN_free(number); }
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
  void operator()(OSSL_PARAM* parameters) const { OSSL_PARAM_free(parameters); }
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

Owned<BIGNUM> Number(std::string_view bytes) {
  return Owned<BIGNUM>(BN_bin2bn(Bytes(bytes), static_cast<int>(bytes.size()), nullptr));
}

std::string Text(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// A public key of OpenSSL's from its parameters; null where they make none.
std::shared_ptr<EVP_PKEY> KeyFrom(const char* kind, OSSL_PARAM_BLD* builder) {
  const Owned<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(builder));
  const Owned<EVP_PKEY_CTX> maker(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* made = nullptr;
  if (parameters == nullptr || EVP_PKEY_fromdata_init(maker.get()) != 1 ||
      EVP_PKEY_fromdata(maker.get(), &made, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    return nullptr;
  }
  std::shared_ptr<EVP_PKEY> key(made, EVP_PKEY_free);
  const Owned<EVP_PKEY_CTX> checker(EVP_PKEY_CTX_new(key.get(), nullptr));
  return EVP_PKEY_public_check(checker.get()) == 1 ? key : nullptr;
}

std::shared_ptr<EVP_PKEY> RsaKey(const Json& entry) {
  std::string modulus, exponent;
  if (!DecodeBase64Url(Text(entry, "n"), modulus) || !DecodeBase64Url(Text(entry, "e"), exponent)) {
    return nullptr;
  }
  if (modulus.size() > 1024 || exponent.size() > 8) return nullptr;
  const Owned<BIGNUM> n = Number(modulus), e = Number(exponent);
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  if (BN_num_bits(n.get()) < kMinRsaBits || BN_is_odd(e.get()) == 0 || BN_is_one(e.get()) != 0) {
    return nullptr;
  }
  return KeyFrom("RSA", builder.get());
}

std::shared_ptr<EVP_PKEY> P256Key(const Json& entry) {
  std::string x, y;
  if (Text(entry, "crv") != "P-256" || !DecodeBase64Url(Text(entry, "x"), x) ||
      !DecodeBase64Url(Text(entry, "y"), y) || x.size() != kCoordinateBytes ||
      y.size() != kCoordinateBytes) {
    return nullptr;
  }
  const std::string point = '\x04' + x + y;  // uncompressed
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return KeyFrom("EC", builder.get());
}

// OpenSSL wants the two numbers of an ECDSA signature in DER.
std::string DerSignature(std::string_view raw) {
  if (raw.size() != 2 * kCoordinateBytes) return {};
  const Owned<ECDSA_SIG> signature(ECDSA_SIG_new());
  Owned<BIGNUM> r = Number(raw.substr(0, kCoordinateBytes));
  Owned<BIGNUM> s = Number(raw.substr(kCoordinateBytes));
  ECDSA_SIG_set0(signature.get(), r.release(), s.release());
  unsigned char* bytes = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &bytes);
  std::string der(reinterpret_cast<char*>(bytes), size > 0 ? static_cast<size_t>(size) : 0);
  OPENSSL_free(bytes);
  return der;
}

bool VerifyWith(EVP_PKEY* key, std::string_view message, std::string_view signature) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  const bool valid =
      EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
      EVP_DigestVerify(context.get(), Bytes(signature), signature.size(), Bytes(message),
                       message.size()) == 1;
  ERR_clear_error();
  return valid;
}

struct Kind {
  std::string_view type;       // "kty"
  std::string_view algorithm;  // "alg"
  SignatureAlgorithm value;
  std::shared_ptr<EVP_PKEY> (*make)(const Json&);
};
constexpr Kind kKinds[] = {{"RSA", "RS256", SignatureAlgorithm::kRs256, RsaKey},
                           {"EC", "ES256", SignatureAlgorithm::kEs256, P256Key}};

// The kind of an entry; none for what is not for us.
const Kind* KindOf(const Json& entry) {
  const std::string use = Text(entry, "use"), algorithm = Text(entry, "alg");
  if (!use.empty() && use != "sig") return nullptr;
  for (const Kind& kind : kKinds) {
    if (Text(entry, "kty") == kind.type && (algorithm.empty() || algorithm == kind.algorithm)) {
      return &kind;
    }
  }
  return nullptr;
}

absl::Status Refuse(std::string_view what, std::string_view why) {
  return Error(Reason::kOptionInvalid, what, why,
               "give the issuer's JSON Web Key Set with RSA (2048 bits or more) or P-256 keys");
}

}  // namespace

absl::StatusOr<KeySet> KeySet::Parse(std::string_view file, std::string_view text) {
  ASSIGN_OR_RETURN(const Json document, ParseJson(file, text, Reason::kOptionInvalid));
  const auto entries = document.find("keys");
  if (!document.is_object() || entries == document.end() || !entries->is_array()) {
    return Refuse(file, "it has no list \"keys\"");
  }
  KeySet set;
  for (const Json& entry : *entries) {
    const Kind* kind = entry.is_object() ? KindOf(entry) : nullptr;
    if (kind == nullptr) continue;
    std::shared_ptr<EVP_PKEY> key = kind->make(entry);
    ERR_clear_error();
    std::string id = Text(entry, "kid");
    if (key == nullptr) {
      return Refuse(fmt::format("{}: key \"{}\"", file, id), "it is malformed or too weak");
    }
    set.keys_.push_back({std::move(id), kind->value, std::move(key)});
  }
  if (set.keys_.empty()) return Refuse(file, "it has no key for RS256 or ES256");
  return set;
}

bool KeySet::Verify(SignatureAlgorithm algorithm, std::string_view id, std::string_view message,
                    std::string_view signature) const {
  const bool ecdsa = algorithm == SignatureAlgorithm::kEs256;
  const std::string bytes = ecdsa ? DerSignature(signature) : std::string(signature);
  if (bytes.empty()) return false;
  return std::any_of(keys_.begin(), keys_.end(), [&](const Key& key) {
    return key.algorithm == algorithm && (id.empty() || key.id == id) &&
           VerifyWith(key.key.get(), message, bytes);
  });
}

bool DecodeBase64Url(std::string_view text, std::string& bytes) {
  const auto allowed = [](unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed) &&
         absl::WebSafeBase64Unescape(absl::string_view(text.data(), text.size()), &bytes);
}

}  // namespace linchpin
