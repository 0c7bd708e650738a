// Certificates for tests, made on the spot.
#pragma once

#include <string>

#include "tests/support/temporary_directory.h"

namespace linchpin {

// PEM texts.
struct TestCertificate {
  std::string certificate;
  std::string key;
};

// A self-signed authority named `name`.
TestCertificate MakeAuthority(const std::string& name);
// A certificate for "localhost" that `authority` signed, with more subject
// alternative names where given, as in "URI:spiffe://a,DNS:b", for the key where
// one is given.
TestCertificate MakeCertificate(const TestCertificate& authority, const std::string& names = {},
                                const std::string& key = {});

}  // namespace linchpin
