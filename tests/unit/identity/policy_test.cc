#include "identity/policy.h"

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

constexpr char kText[] = R"({"identities": {
  "token:a": {"rpcs": ["CompressModel"], "sources": ["/models", "s3://models/a/"],
              "destinations": ["/out"], "max_job_bytes": 1000},
  "certificate:spiffe://b": {},
  "*": {"rpcs": []}}})";

TEST(Policy, GivesEachIdentityItsOwn) {
  const auto policy = Policy::Parse("policy.json", kText);
  ASSERT_TRUE(policy.ok()) << policy.status();
  const Grant* a = policy->Find("token:a");
  ASSERT_NE(a, nullptr);
  EXPECT_TRUE(a->AllowsRpc("CompressModel"));
  EXPECT_FALSE(a->AllowsRpc("VerifyArtifact"));
  EXPECT_EQ(a->max_job_bytes, 1000U);
  const Grant* b = policy->Find("certificate:spiffe://b");
  ASSERT_NE(b, nullptr);
  EXPECT_TRUE(b->AllowsRpc("VerifyArtifact"));
  EXPECT_FALSE(b->sources.has_value());
}

TEST(Policy, StarIsEverybodyElseButNobody) {
  const auto policy = Policy::Parse("policy.json", kText);
  ASSERT_TRUE(policy.ok()) << policy.status();
  const Grant* other = policy->Find("token:c");
  ASSERT_NE(other, nullptr);
  EXPECT_FALSE(other->AllowsRpc("CompressModel"));
  EXPECT_EQ(policy->Find("anonymous"), nullptr);
  const auto closed = Policy::Parse("policy.json", R"({"identities": {"anonymous": {}}})");
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_EQ(closed->Find("token:c"), nullptr);
  EXPECT_NE(closed->Find("anonymous"), nullptr);
}

TEST(Policy, RefusesWhatItDoesNotKnow) {
  for (const char* text :
       {"", "[]", "{}", R"({"identities": []})", R"({"identities": {}, "more": 1})",
        R"({"identities": {"a": {}}})", R"({"identities": {"token:": {}}})",
        R"({"identities": {"*": 1}})", R"({"identities": {"*": {"rpc": []}}})",
        R"({"identities": {"*": {"rpcs": "CompressModel"}}})",
        R"({"identities": {"*": {"rpcs": [1]}}})", R"({"identities": {"*": {"sources": [""]}}})",
        R"({"identities": {"*": {"max_job_bytes": -1}}})",
        R"({"identities": {"*": {"max_job_bytes": "1GB"}}})",
        R"({"identities": {"*": {}, "*": {}}})",
        R"({"identities": {"*": {"rpcs": [], "rpcs": ["X"]}}})"}) {
    const auto policy = Policy::Parse("policy.json", text);
    EXPECT_EQ(ReasonOf(policy.status()), Reason::kOptionInvalid) << text;
    EXPECT_THAT(std::string(policy.status().message()), testing::HasSubstr("policy.json"));
  }
}

bool Beneath(std::string_view path) {
  return LiesBeneath(path, {"/models", "s3://bucket/team-a/", "/exact.gguf"},
                     [](std::string_view text) { return std::string(text); });
}

TEST(LiesBeneath, HoldsAtTheBordersOfNames) {
  for (const char* path : {"/models", "/models/a", "/models/a/b.gguf", "s3://bucket/team-a/x",
                           "s3://bucket/team-a", "/exact.gguf", "/models/..a", "/models/a.."}) {
    EXPECT_TRUE(Beneath(path)) << path;
  }
  for (const char* path : {"/models-b", "/model", "/", "", "/exact.gguf2", "s3://bucket/team-ab",
                           "s3://bucket", "s3://other/team-a/x", "file:///models/a"}) {
    EXPECT_FALSE(Beneath(path)) << path;
  }
}

TEST(LiesBeneath, NoDetourLeadsOut) {
  for (const char* path :
       {"/models/../etc", "/models/..", "/models/a/../../etc", "/models/./a", "/models/%2e%2e/etc",
        "/models/%2E%2E/etc", "/models/..%2fetc", "/models/..\\etc", "/models/%5c",
        "s3://bucket/team-a/../team-b/x", "s3://bucket/team-a/%2e%2e/team-b"}) {
    EXPECT_FALSE(Beneath(path)) << path;
  }
}

TEST(LiesBeneath, FollowsWhatTheStoreSaysOfThePath) {
  const auto canonical = [](std::string_view path) {
    return std::string(path == "/models/link" ? "/etc" : path == "/alias" ? "/models" : path);
  };
  EXPECT_FALSE(LiesBeneath("/models/link", {"/models"}, canonical));
  EXPECT_TRUE(LiesBeneath("/models/a", {"/alias"}, canonical));
  EXPECT_TRUE(LiesBeneath("/anything", {"/"}, canonical));
}

}  // namespace
}  // namespace linchpin
