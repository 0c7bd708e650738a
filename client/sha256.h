// SHA-256 of bytes that come in pieces.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "openssl/evp.h"

namespace linchpin {

class Sha256 {
 public:
  Sha256();
  void Update(std::string_view bytes);
  // Lower-case hex of all bytes so far.  Called once, last.
  std::string Hex();

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace linchpin
