#include "quantize/equalization.h"

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tensor/float16.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const char kNorm0[] = "model.layers.0.input_layernorm.weight";
const char kQuery0[] = "model.layers.0.self_attn.q_proj.weight";
const char kValue0[] = "model.layers.0.self_attn.v_proj.weight";
const char kUp0[] = "model.layers.0.mlp.up_proj.weight";

TEST(ExponentsOfTest, GrowWithTheRootMeanSquareToThePowerOfThreeTenths) {
  // 0.3 x log2 of the root, over the mean of all: 0.15 x 8 and 0.15 x 4.
  EXPECT_THAT(ExponentsOf({{0x1p8F, 0x1p-8F, 1, 1}, 1}), ElementsAre(1, -1, 0, 0));
  EXPECT_THAT(ExponentsOf({{0x1p12F, 0x1p4F}, 1}), ElementsAre(1, -1));
  EXPECT_THAT(ExponentsOf({{3, 3, 3}, 1}), ElementsAre(0, 0, 0));
}

TEST(ExponentsOfTest, AreTwoAtMost) {
  EXPECT_THAT(ExponentsOf({{0x1p60F, 1}, 1}), ElementsAre(2, -2));
}

TEST(ExponentsOfTest, ADeadChannelIsAsOneThatHardlyMatters) {
  EXPECT_THAT(ExponentsOf({{1, 0}, 1}), ElementsAre(2, -2));
  EXPECT_THAT(ExponentsOf({{0, 0}, 1}), ElementsAre(0, 0));
  EXPECT_THAT(ExponentsOf({}), IsEmpty());
}

TEST(ScaleColumnsTest, ChangesNoBitOfAMantissa) {
  const std::vector<float> factors = {0.25F, 0.5F, 1, 2, 4};
  const std::vector<float> back = {4, 2, 1, 0.5F, 0.25F};
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const std::vector<float> values = {1.0F / 3, -7.25F, 0, 1e-3F, 119, 3, -0.1F, 5, 6, -1};
    std::vector<std::byte> bytes(values.size() * SizeOf(dtype));
    NarrowFromFloat(dtype, values.data(), 10, bytes.data());
    const std::vector<std::byte> before = bytes;
    std::vector<float> stored(10);
    WidenToFloat(dtype, bytes.data(), 10, stored.data());

    ScaleColumns(dtype, factors, 2, bytes.data());
    std::vector<float> scaled(10);
    WidenToFloat(dtype, bytes.data(), 10, scaled.data());
    for (size_t i = 0; i < 10; ++i) EXPECT_EQ(scaled[i], stored[i] * factors[i % 5]) << i;
    ScaleColumns(dtype, back, 2, bytes.data());
    EXPECT_EQ(bytes, before) << NameOf(dtype);
  }
}

class PlanEqualizationTest : public ::testing::Test {
 protected:
  PlanEqualizationTest() { PutTinyCheckpoint(storage_, "model"); }

  Plan Make(const QuantizeOptions& options, const Importance* importance = nullptr,
            const std::vector<PinnedWeight>& super_weights = {}) {
    const auto checkpoint = Checkpoint::Open(storage_, "model");
    auto plan = MakePlan(*checkpoint, options, super_weights, importance);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.value_or(Plan{});
  }
  // Names of the rows that are equalized so.
  static std::vector<std::string> Names(const Plan& plan, Equalized equalized) {
    std::vector<std::string> names;
    for (const PlanRow& row : plan.rows) {
      if (row.equalized == equalized) names.push_back(row.source.info.name);
    }
    return names;
  }
  // Of all linear layers, as a pass leaves it: those of one input share it.
  Importance Measured(float channel_zero) {
    const auto checkpoint = Checkpoint::Open(storage_, "model");
    Importance importance;
    for (const StoredTensor& tensor : checkpoint->tensors()) {
      if (tensor.info.shape.size() != 2) continue;
      InputStatistics statistics{std::vector<float>(tensor.info.shape[1], 1.0F), 5};
      statistics.mean_squares[0] = channel_zero;
      importance[tensor.info.name] = std::make_shared<InputStatistics>(statistics);
    }
    return importance;
  }
  std::vector<NormedLayers> Normed() {
    return LinearLayersOf(*Checkpoint::Open(storage_, "model"))->normed;
  }

  MemoryStorage storage_;
};

TEST_F(PlanEqualizationTest, TakesNormsAndAllThatReadsThem) {
  const Plan plan = Make({.equalize = true});
  EXPECT_THAT(Names(plan, Equalized::kNorm),
              ElementsAre(kNorm0, "model.layers.0.post_attention_layernorm.weight",
                          "model.layers.1.input_layernorm.weight",
                          "model.layers.1.post_attention_layernorm.weight"));
  const std::vector<std::string> layers = Names(plan, Equalized::kLayer);
  EXPECT_EQ(layers.size(), 10U);
  EXPECT_THAT(layers, AllOf(Contains(kQuery0), Contains(kValue0), Contains(kUp0)));
  EXPECT_THAT(layers, Not(Contains(HasSubstr("o_proj"))));
  EXPECT_THAT(layers, Not(Contains(HasSubstr("down_proj"))));
  EXPECT_THAT(plan.notes, Contains(HasSubstr("4 norms")));
}

TEST_F(PlanEqualizationTest, IsOffUnlessAskedFor) {
  const Plan plan = Make({});
  EXPECT_THAT(Names(plan, Equalized::kNo).size(), plan.rows.size());
  EXPECT_THAT(plan.notes, Not(Contains(HasSubstr("norms"))));
}

TEST_F(PlanEqualizationTest, LeavesANormOfWhichOneReaderIsKept) {
  const Plan plan = Make({.equalize = true, .ignore = {"*.0.self_attn.k_proj"}});
  EXPECT_THAT(Names(plan, Equalized::kNorm), Not(Contains(kNorm0)));
  EXPECT_THAT(Names(plan, Equalized::kLayer), Not(Contains(kQuery0)));
  EXPECT_THAT(Names(plan, Equalized::kLayer), Contains(kUp0));
  EXPECT_THAT(plan.notes, Contains(HasSubstr("3 norms")));
}

TEST_F(PlanEqualizationTest, LeavesLayersWhoseSuperWeightMustKeepItsValue) {
  const std::vector<PinnedWeight> in_query = {{{kQuery0, 3, 5}, 0.5F}};
  const Plan plan = Make({.equalize = true, .preserve = Preserve::kScale}, nullptr, in_query);
  EXPECT_THAT(Names(plan, Equalized::kLayer), Not(Contains(kQuery0)));
  EXPECT_THAT(Names(plan, Equalized::kLayer), Not(Contains(kValue0)));
}

TEST_F(PlanEqualizationTest, LeavesLayersThatNothingIsKnownOf) {
  Importance importance = Measured(1);
  importance.erase(kValue0);
  const Plan plan = Make({.equalize = true}, &importance);
  EXPECT_THAT(Names(plan, Equalized::kLayer), IsEmpty()) << "no norm has its statistics yet";
  EXPECT_THAT(plan.notes, Contains(HasSubstr("no norm could be equalized")));
  AddNorms(Normed(), importance);
  importance.erase(kValue0);
  const std::vector<std::string> layers =
      Names(Make({.equalize = true}, &importance), Equalized::kLayer);
  EXPECT_THAT(layers, Not(Contains(kQuery0)));
  EXPECT_THAT(layers, Contains(kUp0));
}

TEST_F(PlanEqualizationTest, IsRefusedWhereNoScaleGoesByImportance) {
  const auto checkpoint = Checkpoint::Open(storage_, "model");
  for (const QuantizeOptions& options :
       {QuantizeOptions{.scale = ScaleRule::kSigned, .equalize = true},
        QuantizeOptions{.format = Format::kDense, .scheme = Scheme::kPruned, .equalize = true}}) {
    const auto plan = MakePlan(*checkpoint, options, {});
    EXPECT_EQ(ReasonOf(plan.status()), Reason::kOptionInvalid) << plan.status();
    EXPECT_THAT(plan.status().message(), HasSubstr("equalize"));
  }
}

TEST_F(PlanEqualizationTest, FactorsOfANormAndOfItsLayersCancel) {
  Importance importance = Measured(0x1p40F);
  AddNorms(Normed(), importance);
  const Plan plan = Make({.equalize = true}, &importance);
  std::vector<std::vector<float>> norms, layers;
  for (const PlanRow& row : plan.rows) {
    const std::vector<float> factors = FactorsOf(row, &importance);
    EXPECT_EQ(factors.empty(), row.equalized == Equalized::kNo);
    if (row.equalized == Equalized::kNorm) norms.push_back(factors);
    if (row.equalized == Equalized::kLayer) layers.push_back(factors);
  }
  EXPECT_THAT(norms, Each(norms.front()));
  EXPECT_THAT(layers, Each(layers.front()));
  ASSERT_EQ(norms.front().size(), layers.front().size());
  EXPECT_EQ(layers.front()[0], 4);
  for (size_t i = 0; i < norms.front().size(); ++i) {
    EXPECT_EQ(norms.front()[i] * layers.front()[i], 1) << i;
  }
}

TEST_F(PlanEqualizationTest, LayersOfANormHaveTheFactorsOfTheFirst) {
  Importance importance = Measured(1);
  InputStatistics other = *importance[kQuery0];
  other.mean_squares[7] = 0x1p40F;
  importance[kQuery0] = std::make_shared<InputStatistics>(other);
  AddNorms(Normed(), importance);
  EXPECT_EQ(importance[kValue0], importance[kQuery0]);
  EXPECT_EQ(importance[kNorm0], importance[kQuery0]);
}

}  // namespace
}  // namespace linchpin
