#include "identity/bearer_token.h"

#include <map>
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/signed_tokens.h"

namespace linchpin {
namespace {

constexpr int64_t kNow = 1'800'000'000;

class BearerToken : public testing::TestWithParam<const char*> {
 protected:
  absl::StatusOr<std::string> Subject(const std::string& token) const {
    return SubjectOf(token, keys_, {.issuer = "issuer", .audience = "linchpin"},
                     std::chrono::system_clock::from_time_t(kNow));
  }
  // Claims that are good, but for `changes`; an empty value leaves one out.
  static std::string Claims(const std::map<std::string, std::string>& changes = {}) {
    std::map<std::string, std::string> claims = {{"iss", R"("issuer")"},
                                                 {"aud", R"("linchpin")"},
                                                 {"sub", R"("somebody")"},
                                                 {"exp", std::to_string(kNow + 600)}};
    for (const auto& [name, value] : changes) claims[name] = value;
    std::string text = "{";
    for (const auto& [name, value] : claims) {
      if (value.empty()) continue;
      text += (text.size() > 1 ? "," : "") + ('"' + name) + "\":" + value;
    }
    return text + "}";
  }
  void ExpectRefused(const std::string& token, const std::string& about) const {
    const auto subject = Subject(token);
    EXPECT_EQ(ReasonOf(subject.status()), Reason::kUnauthenticated) << about;
    EXPECT_THAT(std::string(subject.status().message()),
                testing::Not(testing::HasSubstr("somebody")));
  }

  TokenIssuer issuer_{GetParam()};
  KeySet keys_ = *KeySet::Parse("keys.json", issuer_.KeySet());
};

TEST_P(BearerToken, NamesItsSubject) {
  const auto subject = Subject(issuer_.Token(Claims()));
  ASSERT_TRUE(subject.ok()) << subject.status();
  EXPECT_EQ(*subject, "somebody");
}

TEST_P(BearerToken, MayNameSeveralAudiencesAndNoKey) {
  EXPECT_TRUE(Subject(issuer_.Token(Claims({{"aud", R"(["other","linchpin"])"}}))).ok());
  EXPECT_TRUE(
      Subject(issuer_.Sign(std::string(R"({"alg":")") + GetParam() + "\"}", Claims())).ok());
}

TEST_P(BearerToken, ClocksMayDiffer) {
  EXPECT_TRUE(Subject(issuer_.Token(Claims({{"exp", std::to_string(kNow - 59)}}))).ok());
  EXPECT_TRUE(Subject(issuer_.Token(Claims({{"nbf", std::to_string(kNow + 59)}}))).ok());
}

TEST_P(BearerToken, IsRefusedForWrongClaims) {
  const std::map<std::string, std::string> wrong[] = {
      {{"iss", R"("other")"}},
      {{"iss", ""}},
      {{"iss", R"(["issuer"])"}},
      {{"aud", R"("other")"}},
      {{"aud", ""}},
      {{"aud", "[]"}},
      {{"aud", R"([["linchpin"]])"}},
      {{"aud", R"({"linchpin":1})"}},
      {{"exp", std::to_string(kNow - 61)}},
      {{"exp", ""}},
      {{"exp", R"("1900000000")"}},
      {{"exp", "null"}},
      {{"exp", "-1e300"}},
      {{"exp", "1e999"}},
      {{"nbf", std::to_string(kNow + 61)}},
      {{"nbf", R"("0")"}},
      {{"iat", std::to_string(kNow + 61)}},
      {{"sub", ""}},
      {{"sub", "7"}},
      {{"sub", R"("")"}},
      {{"sub", R"("a b")"}},
      {{"sub", R"("a\nb")"}},
      {{"sub", "\"" + std::string(257, 'a') + "\""}},
  };
  for (const auto& changes : wrong) {
    ExpectRefused(issuer_.Token(Claims(changes)),
                  changes.begin()->first + "=" + changes.begin()->second);
  }
}

TEST_P(BearerToken, IsRefusedForOtherAlgorithms) {
  const std::string other = std::string(GetParam()) == "RS256" ? "ES256" : "RS256";
  for (const std::string& algorithm :
       {other, std::string("none"), std::string("None"), std::string("HS256"), std::string("RS384"),
        std::string("PS256"), std::string(""), std::string("rs256")}) {
    ExpectRefused(issuer_.Sign(R"({"alg":")" + algorithm + "\"}", Claims()), algorithm);
  }
  ExpectRefused(issuer_.Sign("{}", Claims()), "no alg");
  ExpectRefused(issuer_.Sign(R"({"alg":7})", Claims()), "alg 7");
  const std::string head = EncodeBase64Url(R"({"alg":"none"})") + "." + EncodeBase64Url(Claims());
  ExpectRefused(head + ".", "none, unsigned");
  ExpectRefused(head, "none, two parts");
}

TEST_P(BearerToken, IsRefusedForAnotherKeyAndForExtensions) {
  ExpectRefused(TokenIssuer(GetParam()).Token(Claims()), "another key of the same name");
  const std::string head = std::string(R"({"alg":")") + GetParam() + '"';
  ExpectRefused(issuer_.Sign(head + R"(,"kid":"key-2"})", Claims()), "unknown kid");
  ExpectRefused(issuer_.Sign(head + R"(,"crit":["exp"]})", Claims()), "crit");
  ExpectRefused(issuer_.Sign(head + R"(,"alg":"none"})", Claims()), "alg twice");
}

// Whatever bit is turned over, nothing is let in.
TEST_P(BearerToken, AnyChangedCharacterIsRefused) {
  const std::string token = issuer_.Token(Claims());
  for (size_t i = 0; i < token.size(); i += 3) {
    for (const char c : {'A', '.', '_', '\0', '='}) {
      std::string changed = token;
      if (changed[i] == c) continue;
      changed[i] = c;
      // The last character of a part may carry bits that decode to nothing.
      const auto subject = Subject(changed);
      EXPECT_TRUE(!subject.ok() || *subject == "somebody") << i;
      const bool ends_part = i + 1 == token.size() || token[i + 1] == '.';
      EXPECT_TRUE(!subject.ok() || ends_part) << i << " to " << c;
    }
  }
}

TEST_P(BearerToken, IsRefusedWhereItIsNoToken) {
  const std::string token = issuer_.Token(Claims());
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("..."),
        std::string("a.b.c"), token + ".", token + "=", " " + token, token.substr(1),
        token.substr(0, token.rfind('.')), token + token, std::string(1 << 20, 'a'),
        std::string(10, '\0')}) {
    ExpectRefused(text, text.substr(0, 40));
  }
  ExpectRefused(issuer_.Token("[]"), "claims that are no object");
  ExpectRefused(issuer_.Token("{"), "claims that are no JSON");
}

INSTANTIATE_TEST_SUITE_P(Algorithms, BearerToken, testing::Values("RS256", "ES256"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace linchpin
