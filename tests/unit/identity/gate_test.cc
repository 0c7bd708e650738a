#include "identity/gate.h"

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/patience.h"
#include "tests/support/signed_tokens.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

constexpr char kMethod[] = "/linchpin.v1.CompressionService/CompressModel";
constexpr char kHealth[] = "/grpc.health.v1.Health/Check";
constexpr char kReflection[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

class GateTest : public testing::Test {
 protected:
  GateSettings WithTokens() {
    GateSettings settings;
    settings.token_keys = directory_.Write("keys.json", issuer_.KeySet());
    settings.token_rules.issuer = "issuer";
    settings.token_rules.audience = "linchpin";
    return settings;
  }
  std::unique_ptr<Gate> Open(const GateSettings& settings) {
    auto gate = Gate::Create(settings);
    EXPECT_TRUE(gate.ok()) << gate.status();
    return *std::move(gate);
  }
  Presented Bearer(const std::string& subject) {
    return {.authorizations = {"Bearer " + issuer_.TokenFor(subject)}};
  }
  static std::string Who(const Gate& gate, const Presented& presented) {
    const auto caller = gate.Identify(presented);
    return caller.ok() ? caller->identity : std::string(InfoOf(ReasonOf(caller.status())).name);
  }
  static Reason Check(const Gate& gate, const char* method, const Presented& presented) {
    return ReasonOf(gate.Check(method, presented));
  }

  TemporaryDirectory directory_;
  TokenIssuer issuer_{"ES256"};
};

TEST_F(GateTest, AskedForNothingItLetsEverybodyIn) {
  const auto gate = Open({});
  EXPECT_FALSE(gate->active());
  EXPECT_EQ(Who(*gate, {}), "anonymous");
  EXPECT_EQ(Who(*gate, {.unix_socket = true}), "local");
  EXPECT_EQ(Who(*gate, {.names = {"a", "b"}}), "certificate:a");
  EXPECT_EQ(Check(*gate, kMethod, {}), Reason::kUnspecified);
}

TEST_F(GateTest, WithKeysATokenIsAskedFor) {
  const auto gate = Open(WithTokens());
  EXPECT_TRUE(gate->active());
  EXPECT_EQ(Who(*gate, Bearer("me")), "token:me");
  EXPECT_EQ(Who(*gate, {}), "UNAUTHENTICATED");
  EXPECT_EQ(Who(*gate, {.unix_socket = true}), "local");
  EXPECT_EQ(Who(*gate, {.names = {"a"}}), "certificate:a");
  // Whoever shows a wrong one is not let in for anything else it shows.
  EXPECT_EQ(Who(*gate, {.unix_socket = true, .names = {"a"}, .authorizations = {"Bearer x"}}),
            "UNAUTHENTICATED");
  Presented twice = Bearer("me");
  twice.authorizations.push_back(twice.authorizations[0]);
  EXPECT_EQ(Who(*gate, twice), "UNAUTHENTICATED");
  const std::string token = issuer_.TokenFor("me");
  EXPECT_EQ(Who(*gate, {.authorizations = {"bearer " + token}}), "token:me");
  for (const std::string& value : {token, "Basic " + token, "Bearer" + token, std::string()}) {
    EXPECT_EQ(Who(*gate, {.authorizations = {value}}), "UNAUTHENTICATED") << value;
  }
}

TEST_F(GateTest, OnlyListedCertificatesCount) {
  GateSettings settings;
  settings.certificate_names = {"good", "better"};
  const auto gate = Open(settings);
  EXPECT_TRUE(gate->active());
  EXPECT_EQ(Who(*gate, {.names = {"bad", "better"}}), "certificate:better");
  EXPECT_EQ(Who(*gate, {.names = {"bad"}}), "UNAUTHENTICATED");
  EXPECT_EQ(Who(*gate, {.names = {"goo", "good2", "GOOD"}}), "UNAUTHENTICATED");
  EXPECT_EQ(Who(*gate, {}), "UNAUTHENTICATED");
}

TEST_F(GateTest, ThePolicyDecidesWhatEachMayCall) {
  GateSettings settings = WithTokens();
  settings.policy =
      directory_.Write("policy.json", R"({"identities": {"token:one": {"rpcs": ["CompressModel"]},
                                        "token:two": {"rpcs": []}}})");
  const auto gate = Open(settings);
  EXPECT_EQ(Check(*gate, kMethod, Bearer("one")), Reason::kUnspecified);
  EXPECT_EQ(Check(*gate, kMethod, Bearer("two")), Reason::kPolicyRefused);
  EXPECT_EQ(Check(*gate, kMethod, Bearer("three")), Reason::kPolicyRefused);
  EXPECT_EQ(Check(*gate, kMethod, {.unix_socket = true}), Reason::kPolicyRefused);
  EXPECT_EQ(Check(*gate, kMethod, {}), Reason::kUnauthenticated);
  EXPECT_EQ(Check(*gate, "/linchpin.v1.CompressionService/VerifyArtifact", Bearer("one")),
            Reason::kPolicyRefused);
  EXPECT_EQ(Check(*gate, "", Bearer("one")), Reason::kPolicyRefused);
}

TEST_F(GateTest, OfSeveralNamesTheOneInThePolicyCounts) {
  GateSettings settings;
  settings.policy =
      directory_.Write("policy.json", R"({"identities": {"certificate:b": {"rpcs": []}}})");
  const auto gate = Open(settings);
  EXPECT_EQ(Who(*gate, {.names = {"a", "b"}}), "certificate:b");
  EXPECT_EQ(Check(*gate, kMethod, {.names = {"a"}}), Reason::kPolicyRefused);
  EXPECT_EQ(Check(*gate, kMethod, {}), Reason::kUnauthenticated);
}

TEST_F(GateTest, HealthAndReflectionAreOpenAsTheSettingsSay) {
  GateSettings settings = WithTokens();
  const auto probed = Open(settings);
  EXPECT_EQ(Check(*probed, kHealth, {}), Reason::kUnspecified);
  EXPECT_EQ(Check(*probed, kReflection, {}), Reason::kUnauthenticated);
  EXPECT_EQ(Check(*probed, kReflection, Bearer("me")), Reason::kUnspecified);
  settings.open = {"reflection"};
  const auto described = Open(settings);
  EXPECT_EQ(Check(*described, kHealth, {}), Reason::kUnauthenticated);
  EXPECT_EQ(Check(*described, kHealth, Bearer("me")), Reason::kUnspecified);
  EXPECT_EQ(Check(*described, kReflection, {}), Reason::kUnspecified);
}

TEST_F(GateTest, APolicyIsTakenUpWhenItChanges) {
  GateSettings settings = WithTokens();
  settings.policy = directory_.Write("policy.json", R"({"identities": {"*": {}}})");
  const auto gate = Open(settings);
  EXPECT_EQ(Check(*gate, kMethod, Bearer("me")), Reason::kUnspecified);
  directory_.Write("policy.json", R"({"identities": {"*": {"rpcs": []}}})");
  EXPECT_TRUE(Comes([&] { return Check(*gate, kMethod, Bearer("me")) == Reason::kPolicyRefused; }));
}

TEST_F(GateTest, HalfOfItsSettingsAreRefused) {
  GateSettings no_issuer = WithTokens();
  no_issuer.token_rules.issuer.clear();
  GateSettings no_audience = WithTokens();
  no_audience.token_rules.audience.clear();
  GateSettings no_keys = WithTokens();
  no_keys.token_keys.clear();
  GateSettings absent = WithTokens();
  absent.token_keys = "/no/such/file";
  GateSettings bad_policy;
  bad_policy.policy = directory_.Write("bad.json", "{}");
  for (const GateSettings& settings : {no_issuer, no_audience, no_keys, absent, bad_policy}) {
    EXPECT_EQ(ReasonOf(Gate::Create(settings).status()), Reason::kOptionInvalid);
  }
}

TEST(Caller, IsHeldToItsGrant) {
  const auto same = [](std::string_view path) { return std::string(path); };
  Caller caller;
  EXPECT_TRUE(caller.CheckSource("/anywhere", same).ok());
  EXPECT_TRUE(caller.CheckJobBytes(UINT64_MAX).ok());
  caller.grant = Grant{.sources = std::vector<std::string>{"/in"},
                       .destinations = std::vector<std::string>{"/out"},
                       .max_job_bytes = 100};
  EXPECT_TRUE(caller.CheckSource("/in/model", same).ok());
  EXPECT_TRUE(caller.CheckSource("", same).ok());
  const absl::Status elsewhere = caller.CheckSource("/secret/model", same);
  EXPECT_EQ(ReasonOf(elsewhere), Reason::kPathNotAllowed);
  EXPECT_THAT(std::string(elsewhere.message()), testing::Not(testing::HasSubstr("secret")));
  EXPECT_EQ(ReasonOf(caller.CheckDestination("/in/out", same)), Reason::kPathNotAllowed);
  EXPECT_TRUE(caller.CheckJobBytes(100).ok());
  const absl::Status large = caller.CheckJobBytes(101);
  EXPECT_EQ(ReasonOf(large), Reason::kPolicyRefused);
  EXPECT_EQ(DetailsOf(large).at("limit_bytes"), "100");
}

}  // namespace
}  // namespace linchpin
