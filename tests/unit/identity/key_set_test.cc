#include "identity/key_set.h"

#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/signed_tokens.h"

namespace linchpin {
namespace {

// RFC 7515, appendices A.2 and A.3.
constexpr char kRfcKeys[] = R"({"keys":[
 {"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"},
 {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})";
constexpr char kRfcPayload[] =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlf"
    "Q";
constexpr char kRfcRs256[] =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_"
    "O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_"
    "nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-"
    "eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igc"
    "N_IoypGlUPQGe77Rw";
constexpr char kRfcEs256[] =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

std::string Decoded(const std::string& text) {
  std::string bytes;
  EXPECT_TRUE(DecodeBase64Url(text, bytes)) << text;
  return bytes;
}

TEST(KeySet, VerifiesTheExamplesOfTheStandard) {
  const auto keys = KeySet::Parse("keys.json", kRfcKeys);
  ASSERT_TRUE(keys.ok()) << keys.status();
  const std::string rsa = std::string("eyJhbGciOiJSUzI1NiJ9.") + kRfcPayload;
  const std::string ecdsa = std::string("eyJhbGciOiJFUzI1NiJ9.") + kRfcPayload;
  EXPECT_TRUE(keys->Verify(SignatureAlgorithm::kRs256, "", rsa, Decoded(kRfcRs256)));
  EXPECT_TRUE(keys->Verify(SignatureAlgorithm::kEs256, "", ecdsa, Decoded(kRfcEs256)));
  EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kRs256, "", ecdsa, Decoded(kRfcRs256)));
  EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kEs256, "", rsa, Decoded(kRfcEs256)));
  EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kEs256, "", ecdsa, Decoded(kRfcRs256)));
  EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kEs256, "other", ecdsa, Decoded(kRfcEs256)));
}

// A zero signature passed in libraries that did not look (CVE-2022-21449).
TEST(KeySet, RefusesSignaturesOfNothing) {
  const auto keys = KeySet::Parse("keys.json", kRfcKeys);
  ASSERT_TRUE(keys.ok()) << keys.status();
  for (const size_t size : {0, 1, 63, 64, 65, 256}) {
    EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kEs256, "", "message", std::string(size, '\0')));
    EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kRs256, "", "message", std::string(size, '\0')));
  }
}

TEST(KeySet, FindsTheKeyByItsName) {
  const TokenIssuer first("ES256", "first"), second("ES256", "second");
  const auto keys =
      KeySet::Parse("keys.json", R"({"keys":[)" + first.Jwk() + "," + second.Jwk() + "]}");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), 2U);
  const std::string token = second.Sign("{}", "{}");
  const size_t dot = token.rfind('.');
  const std::string message = token.substr(0, dot), signature = Decoded(token.substr(dot + 1));
  EXPECT_TRUE(keys->Verify(SignatureAlgorithm::kEs256, "second", message, signature));
  EXPECT_TRUE(keys->Verify(SignatureAlgorithm::kEs256, "", message, signature));
  EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kEs256, "first", message, signature));
  EXPECT_FALSE(keys->Verify(SignatureAlgorithm::kRs256, "second", message, signature));
}

TEST(KeySet, LeavesOutWhatIsForOthers) {
  const TokenIssuer issuer("ES256");
  const auto keys = KeySet::Parse("keys.json", R"({"keys":[{"kty":"oct","k":"c2VjcmV0"},
      {"kty":"RSA","use":"enc","n":"AA","e":"AQAB"},{"kty":"RSA","alg":"PS256","n":"AA","e":"AQAB"},
      7,)" + issuer.Jwk() + "]}");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->size(), 1U);
}

TEST(KeySet, RefusesWhatIsNoneOrWeak) {
  const TokenIssuer weak("RS256", "weak", 1024);
  const std::string cases[] = {
      "", "[]", "{}", R"({"keys":{}})", R"({"keys":[]})", R"({"keys":[{"kty":"oct","k":"AA"}]})",
      weak.KeySet(),
      // Not on the curve, short, and of another curve.
      R"({"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}]})",
      R"({"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]})",
      R"({"keys":[{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]})",
      R"({"keys":[{"kty":"RSA","n":"AA","e":"AQAB"}]})", R"({"keys":[{"kty":"RSA","n":1,"e":2}]})"};
  for (const std::string& text : cases) {
    const auto keys = KeySet::Parse("keys.json", text);
    EXPECT_EQ(ReasonOf(keys.status()), Reason::kOptionInvalid) << text;
    EXPECT_THAT(std::string(keys.status().message()), testing::HasSubstr("keys.json")) << text;
  }
}

TEST(DecodeBase64Url, TakesItsAlphabetAlone) {
  std::string bytes;
  EXPECT_TRUE(DecodeBase64Url("-_8", bytes));
  EXPECT_EQ(bytes, "\xfb\xff");
  for (const char* text : {"", "+/8", "ab=", "a b", "a\nb", "ab.", "a"}) {
    EXPECT_FALSE(DecodeBase64Url(text, bytes)) << text;
  }
}

}  // namespace
}  // namespace linchpin
