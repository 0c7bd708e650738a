#include "artifact/verify.h"

#include <functional>
#include <string>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char kDown1[] = "model.layers.1.mlp.down_proj.weight";

class VerifyTest : public ::testing::Test {
 protected:
  VerifyTest() {
    TinyCheckpoint tiny{.shards = 2};
    tiny.edit = [](TensorFixture& tensor) {
      if (tensor.info.name == kDown1) SetElement(tensor, 3, 77, 0.5F);
    };
    PutTinyCheckpoint(storage_, "in", tiny);
    const absl::Status status = WriteArtifact(storage_, "in", "out", {.preserve = Preserve::kScale},
                                              {{{kDown1, 3, 77}, 0.5F}});
    EXPECT_TRUE(status.ok()) << status;
  }

  VerifyReport Verify(int threads = 2) const {
    RunContext context;
    context.threads = threads;
    absl::StatusOr<VerifyReport> report = VerifyArtifact(storage_, "out", context);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : VerifyReport{};
  }
  void Change(const std::string& name, const std::function<void(std::string&)>& change) {
    std::string text = ToText(storage_.Get("out/" + name));
    change(text);
    storage_.Put("out/" + name, ToBytes(text));
  }
  void ChangeManifest(const std::function<void(Json&)>& change) {
    Change("linchpin.json", [&](std::string& text) {
      Json json = Json::parse(text);
      change(json);
      text = SerializeManifest(json);
    });
  }

  MemoryStorage storage_;
};

const char kShard[] = "model-00002-of-00002.safetensors";

TEST_F(VerifyTest, WhatWasWrittenHolds) {
  for (const int threads : {1, 3}) {
    const VerifyReport report = Verify(threads);
    EXPECT_THAT(report.mismatches, IsEmpty());
    EXPECT_EQ(report.files, 6);
    EXPECT_THAT(report.kept, ElementsAre(KeptWeight{{{kDown1, 3, 77}, 0.5F}, 0.5F, "scale", true}));
  }
}

TEST_F(VerifyTest, OneFlippedBitIsFound) {
  Change(kShard, [](std::string& text) { text[text.size() - 1000] ^= 4; });
  const VerifyReport report = Verify();
  EXPECT_THAT(report.mismatches, Contains(AllOf(HasSubstr(kShard), HasSubstr("SHA-256"))));
  EXPECT_EQ(report.mismatches.size(), 2U) << "the file and the one tensor in it";
}

TEST_F(VerifyTest, AFlippedBitBeforeTheWeightsIsFound) {
  Change("tokenizer.json", [](std::string& text) { text[0] = '['; });
  EXPECT_THAT(Verify().mismatches, ElementsAre(HasSubstr("tokenizer.json: SHA-256")));
}

TEST_F(VerifyTest, ATruncatedShardIsFound) {
  Change(kShard, [](std::string& text) { text.resize(text.size() / 2); });
  EXPECT_THAT(Verify().mismatches,
              Contains(AllOf(HasSubstr(kShard), HasSubstr("bytes, the manifest says"))));
}

TEST_F(VerifyTest, AMissingFileIsFound) {
  storage_.Remove("out/LICENSE");
  EXPECT_THAT(Verify().mismatches, ElementsAre("LICENSE: missing"));
  storage_.Remove("out/" + std::string(kShard));
  EXPECT_THAT(Verify().mismatches, Contains(std::string(kShard) + ": missing"));
}

TEST_F(VerifyTest, AShardBesidesIsFound) {
  storage_.Put("out/extra.safetensors", ToBytes("what is this"));
  EXPECT_THAT(Verify().mismatches,
              Contains("extra.safetensors: a shard that the manifest does not name"));
}

TEST_F(VerifyTest, OtherFilesMayBeAdded) {
  storage_.Put("out/README.md", ToBytes("Our model."));
  EXPECT_THAT(Verify().mismatches, IsEmpty());
}

TEST_F(VerifyTest, WrongDigestsInTheManifestAreFound) {
  ChangeManifest([](Json& json) { json["output"]["files"][0]["sha256"] = std::string(64, '0'); });
  EXPECT_THAT(Verify().mismatches, ElementsAre(HasSubstr("LICENSE: SHA-256")));
}

TEST_F(VerifyTest, AWrongTensorDigestIsFound) {
  ChangeManifest([](Json& json) { json["tensors"][2]["sha256"] = std::string(64, '0'); });
  EXPECT_THAT(Verify().mismatches,
              ElementsAre(HasSubstr("model.layers.0.self_attn.q_proj.weight: SHA-256")));
}

TEST_F(VerifyTest, TensorsTooManyOrTooFewAreFound) {
  ChangeManifest([](Json& json) { json["tensors"][0]["outputs"][0] = "model.other.weight"; });
  EXPECT_THAT(Verify().mismatches,
              ElementsAre(HasSubstr("model.other.weight"),
                          "model.embed_tokens.weight: a tensor that the manifest does not name"));
}

TEST_F(VerifyTest, AWeightThatReadsOtherwiseIsFound) {
  ChangeManifest([](Json& json) { json["super_weights"][0]["stored_value"] = 0.25; });
  EXPECT_THAT(Verify().mismatches, ElementsAre(HasSubstr("[3, 77]: reads 0.5, the manifest says")));
}

TEST_F(VerifyTest, AClaimToBeExactIsChecked) {
  ChangeManifest([](Json& json) { json["super_weights"][0]["value"] = 0.50001; });
  EXPECT_THAT(Verify().mismatches, ElementsAre(HasSubstr("and exact")));
}

TEST_F(VerifyTest, AWeightThatIsNowhereIsFound) {
  ChangeManifest([](Json& json) { json["super_weights"][0]["row"] = 64; });
  EXPECT_THAT(Verify().mismatches, ElementsAre(HasSubstr("no element [64, 77]")));
  ChangeManifest([](Json& json) { json["super_weights"][0]["tensor"] = "none"; });
  EXPECT_THAT(Verify().mismatches, ElementsAre(HasSubstr("none: neither")));
}

TEST_F(VerifyTest, NamesInAManifestOpenNothingOutside) {
  storage_.Put("secret", ToBytes("abc"));
  for (const char* name : {"../secret", "/secret", "out/../../secret", "./LICENSE"}) {
    ChangeManifest([name](Json& json) {
      json["output"]["files"][0] = {{"name", name}, {"size", 3}, {"sha256", Sha256Hex("abc")}};
    });
    EXPECT_THAT(Verify().mismatches, ElementsAre(std::string(name) + ": missing"));
  }
}

TEST_F(VerifyTest, WithoutAManifestThereIsNothingToVerify) {
  EXPECT_EQ(ReasonOf(VerifyArtifact(storage_, "in", {}).status()), Reason::kNotACheckpoint);
  EXPECT_EQ(ReasonOf(VerifyArtifact(storage_, "nowhere", {}).status()), Reason::kNotACheckpoint);
}

TEST_F(VerifyTest, GarbageIsAnError) {
  Change("linchpin.json", [](std::string& text) { text = "garbage"; });
  EXPECT_EQ(ReasonOf(VerifyArtifact(storage_, "out", {}).status()), Reason::kConfigInvalid);
}

TEST_F(VerifyTest, StopsWhenAsked) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(ReasonOf(VerifyArtifact(storage_, "out", {.stop = stop.get_token()}).status()),
            Reason::kCancelled);
}

}  // namespace
}  // namespace linchpin
