// A compressed model as its consumers run it.
#include "pipeline/consumer_lens.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/evaluate.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;

TEST(RoundTokenTest, IntegersHave127CodesAboveZeroAnd128Below) {
  std::vector<float> values = {-255, 255, 1, 2.4F, 3, 0};
  RoundToken(TokenRounding::kInt8, absl::MakeSpan(values));
  EXPECT_THAT(values, ElementsAre(-256, 254, 0, 2, 4, 0));
}

TEST(RoundTokenTest, Float8KeepsThreeBitsOfFraction) {
  std::vector<float> values = {-896, 17, 18, 0.01F, 0.0001F, 0};
  RoundToken(TokenRounding::kFloat8, absl::MakeSpan(values));
  EXPECT_THAT(values, ElementsAre(-896, 16, 18, 12.0F / 1024, 0, 0));
}

TEST(RoundTokenTest, ZerosAndWhatIsNotRoundedStay) {
  std::vector<float> zeros(3);
  RoundToken(TokenRounding::kInt8, absl::MakeSpan(zeros));
  EXPECT_THAT(zeros, ElementsAre(0, 0, 0));
  std::vector<float> values = {1, 0.3F};
  RoundToken(TokenRounding::kNone, absl::MakeSpan(values));
  EXPECT_THAT(values, ElementsAre(1, 0.3F));
}

class ConsumerLensTest : public ::testing::Test {
 protected:
  void Write(Scheme scheme, std::vector<PinnedWeight> super_weights = {}) {
    PutTinyCheckpoint(storage_, "/m");
    const absl::Status written =
        WriteArtifact(storage_, "/m", "/out", {.scheme = scheme}, super_weights);
    ASSERT_TRUE(written.ok()) << written;
  }
  std::unique_ptr<const LinearLens> Lens() {
    auto checkpoint = Checkpoint::Open(storage_, "/out");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto config = checkpoint->Unpack();
    EXPECT_TRUE(config.ok()) << config.status();
    auto lens = ConsumerLens::Of(*checkpoint, *config);
    EXPECT_TRUE(lens.ok()) << lens.status();
    return *std::move(lens);
  }
  // Two tokens of two channels.
  static std::vector<float> Change(const LinearLens& lens, std::string_view weight) {
    std::vector<float> values = {255, 2.4F, 1, 0.003F};
    const std::string_view weights[] = {weight};
    lens.ChangeInput({0, LinearInput::kMlp, weights, {values.data(), 2, 2}},
                     absl::MakeSpan(values));
    return values;
  }
  double Loss(const std::string& source) {
    const auto evaluation =
        Evaluate(storage_, source, {.tokens = {.ids = {{1, 5, 9, 3, 7}, {1, 2, 20, 4}}}}, {});
    EXPECT_TRUE(evaluation.ok()) << evaluation.status();
    return evaluation.ok() ? evaluation->loss : 0;
  }
  MemoryStorage storage_;
};

TEST_F(ConsumerLensTest, WeightsOfFourBitsLeaveActivationsAlone) {
  Write(Scheme::kW4A16);
  EXPECT_EQ(Lens(), nullptr);
  EXPECT_NEAR(Loss("/out"), Loss("/m"), 0.5);
  EXPECT_NE(Loss("/out"), Loss("/m"));
}

TEST_F(ConsumerLensTest, EveryTokenOfWhatIsQuantizedIsRoundedByItsOwnScale) {
  Write(Scheme::kW8A8);
  const auto lens = Lens();
  ASSERT_NE(lens, nullptr);
  EXPECT_THAT(Change(*lens, "model.layers.0.mlp.gate_proj.weight"),
              ElementsAre(254, 2, ::testing::FloatEq(127 / 127.5F), 0));
  EXPECT_THAT(Change(*lens, "lm_head.weight"), ElementsAre(255, 2.4F, 1, 0.003F));
}

TEST_F(ConsumerLensTest, AKeptTensorsInputIsNotRounded) {
  constexpr char kDown[] = "model.layers.1.mlp.down_proj.weight";
  Write(Scheme::kFp8, {{{kDown, 3, 9}, 0.5F}});
  const auto lens = Lens();
  ASSERT_NE(lens, nullptr);
  EXPECT_THAT(Change(*lens, kDown), ElementsAre(255, 2.4F, 1, 0.003F));
  EXPECT_NE(Change(*lens, "model.layers.0.mlp.down_proj.weight")[1], 2.4F);
}

}  // namespace
}  // namespace linchpin
