// Ranks by weights alone, on planted models and against the formula written out.
#include "detect/weight_prior.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "detect/mlp_names.h"
#include "forward/forward_pass.h"
#include "gtest/gtest.h"
#include "tests/support/oracle_model.h"
#include "tests/support/shared.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

// |gate_i|, |up_i| and W by their definition, whole matrices at once.
double ScoreOf(const Checkpoint& checkpoint, const NamedMlp& mlp, int64_t row) {
  const auto read = [&](const StoredTensor* tensor) {
    return *checkpoint.ReadRows(*tensor, 0, tensor->info.shape[0]);
  };
  const Matrix gate = read(mlp.gate), up = read(mlp.up), down = read(mlp.down);
  double sum = 0;
  for (int64_t i = 0; i < down.columns; ++i) {
    double gate_squared = 0, up_squared = 0;
    for (const float g : gate.View().Row(i)) gate_squared += static_cast<double>(g) * g;
    for (const float u : up.View().Row(i)) up_squared += static_cast<double>(u) * u;
    sum += std::pow(static_cast<double>(down.View().At(row, i)), 2) * gate_squared * up_squared;
  }
  return std::sqrt(sum);
}

class WeightPriorTest : public ::testing::Test {
 protected:
  // A llama of two layers whose largest weight stands at layers.1 down_proj[5, 9].
  void Open(const std::function<void(TensorFixture&)>& edit = {}) {
    PutTinyCheckpoint(storage_, "/m", {.edit = [edit](TensorFixture& tensor) {
                        if (tensor.info.name == "model.layers.1.mlp.down_proj.weight") {
                          SetElement(tensor, 5, 9, -30);
                        }
                        if (edit) edit(tensor);
                      }});
    auto opened = Checkpoint::Open(storage_, "/m");
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = std::make_unique<Checkpoint>(std::move(*opened));
  }

  MemoryStorage storage_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(WeightPriorTest, ScoresAreThoseOfTheFormula) {
  Open();
  const auto suspects = SuspectRows(*checkpoint_, 1000, {});
  ASSERT_TRUE(suspects.ok()) << suspects.status();
  ASSERT_EQ(suspects->size(), 2U * 64);  // every row of both layers
  const std::vector<NamedMlp> mlps = FindMlps(*checkpoint_);
  ASSERT_EQ(mlps.size(), 2U);
  for (size_t i = 0; i < suspects->size(); i += 7) {
    const Suspect& suspect = (*suspects)[i];
    const double score =
        ScoreOf(*checkpoint_, mlps[static_cast<size_t>(suspect.layer)], suspect.position.row);
    EXPECT_NEAR(suspect.score, score, 1e-9 * score);
  }
  EXPECT_TRUE(std::is_sorted(
      suspects->begin(), suspects->end(),
      [](const Suspect& a, const Suspect& b) { return a.over_median > b.over_median; }));
}

TEST_F(WeightPriorTest, TheRowOfAHugeWeightComesFirstAndNamesIt) {
  Open();
  const auto suspects = SuspectRows(*checkpoint_, 3, {.threads = 2});
  ASSERT_TRUE(suspects.ok()) << suspects.status();
  ASSERT_EQ(suspects->size(), 3U);
  const Suspect& first = suspects->front();
  EXPECT_EQ(first.position, (WeightPosition{"model.layers.1.mlp.down_proj.weight", 5, 9}));
  EXPECT_EQ(first.value, -30);
  EXPECT_GT(first.over_median, 5);
  EXPECT_GT(first.share, 0.9);
}

TEST_F(WeightPriorTest, IsTheSameForAnyNumberOfThreads) {
  Open();
  const auto one = SuspectRows(*checkpoint_, 20, {.threads = 1});
  const auto four = SuspectRows(*checkpoint_, 20, {.threads = 4});
  ASSERT_TRUE(one.ok() && four.ok());
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ((*one)[i].position, (*four)[i].position);
    EXPECT_EQ((*one)[i].score, (*four)[i].score);
  }
}

TEST_F(WeightPriorTest, ANanIsNamed) {
  Open([](TensorFixture& tensor) {
    if (tensor.info.name == "model.layers.0.mlp.gate_proj.weight") {
      SetElement(tensor, 0, 0, std::nanf(""));
    }
  });
  const auto suspects = SuspectRows(*checkpoint_, 3, {});
  EXPECT_EQ(ReasonOf(suspects.status()), Reason::kNotFinite);
  EXPECT_NE(suspects.status().message().find("layers.0.mlp.down_proj"), std::string::npos);
}

TEST_F(WeightPriorTest, TensorsOfNoKnownNameAreRefused) {
  Open([](TensorFixture& tensor) {
    const size_t at = tensor.info.name.find("down_proj");
    if (at != std::string::npos) tensor.info.name.replace(at, 9, "shrink_it");
  });
  EXPECT_EQ(ReasonOf(SuspectRows(*checkpoint_, 3, {}).status()), Reason::kFamilyUnsupported);
}

// Families differ in names, in fusion and in the order that they store.
class FamilyMlpsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(FamilyMlpsTest, EveryMlpThatTheForwardPassKnowsIsFound) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("oracles/families/" + GetParam()));
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  ASSERT_TRUE(pass.ok()) << pass.status();
  std::set<std::string> expected, found;
  for (int layer = 0; layer < pass->layers(); ++layer) {
    for (int expert = kNoExpert; expert < pass->Experts(layer); ++expert) {
      const std::string name = pass->DownProj(layer, expert).weight.name;
      if (!name.empty()) expected.insert(name);
    }
  }
  for (const NamedMlp& mlp : FindMlps(*model.checkpoint)) {
    found.insert(mlp.down->info.name);
    EXPECT_EQ(mlp.transposed, pass->DownProj(mlp.layer, mlp.expert).transposed);
    EXPECT_EQ(pass->DownProj(mlp.layer, mlp.expert).weight.name, mlp.down->info.name);
  }
  EXPECT_EQ(found, expected);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyMlpsTest,
                         ::testing::Values("falcon", "gemma", "gemma2", "gemma3_text", "gpt2",
                                           "gpt_neox", "llama", "mixtral", "olmo", "olmo2", "opt",
                                           "phi", "phi3", "qwen2", "qwen2_moe", "qwen3",
                                           "qwen3_moe"));

// The rank of the true row and column of every planted model, by weights alone:
// no row stands before those that are planted in its matrix.
class PlantedRankTest : public ::testing::TestWithParam<std::string> {};

TEST_P(PlantedRankTest, ThePlantedRowsComeFirst) {
  LINCHPIN_NEEDS_SHARED();
  const OracleModel model = OpenModel(SharedPath("oracles/planted/" + GetParam()));
  const auto pass = ForwardPass::Open(*model.checkpoint, model.config);
  ASSERT_TRUE(pass.ok()) << pass.status();
  Detection detection;
  std::map<std::string, int64_t> planted_in;
  for (const Json& planted : model.expected["planted"]) {
    const LinearTensors down = pass->DownProj(planted["layer"], planted.value("expert", kNoExpert));
    detection.super_weights.push_back(
        {.position = {down.weight.name, planted["row"], planted["column"]},
         .value = planted["value"]});
    ++planted_in[down.weight.name];
  }
  const absl::Status status = RankByWeights(*model.checkpoint, {}, detection);
  ASSERT_TRUE(status.ok()) << status;
  for (const SuperWeight& weight : detection.super_weights) {
    const std::string place = weight.position.tensor + "_" + std::to_string(weight.position.row);
    RecordProperty(place + "_row_rank", static_cast<int>(weight.weight_only_rank));
    RecordProperty(place + "_column_rank", static_cast<int>(weight.weight_only_column_rank));
    const int64_t planted = planted_in[weight.position.tensor];
    EXPECT_GE(weight.weight_only_rank, 1);
    EXPECT_LE(weight.weight_only_rank, planted);
    EXPECT_GE(weight.weight_only_column_rank, 1);
    EXPECT_LE(weight.weight_only_column_rank, planted);
  }
}

INSTANTIATE_TEST_SUITE_P(All, PlantedRankTest,
                         ::testing::Values("00-llama-one", "01-mistral-one", "02-qwen2-one",
                                           "03-qwen3-siblings", "04-phi3-six", "05-olmo-stack",
                                           "06-llama3-siblings", "07-gemma2-one", "08-olmo2-one",
                                           "09-llama-tied-bias-columns", "10-llama-decoy",
                                           "11-qwen3-moe-expert", "12-qwen2-none"),
                         [](const ::testing::TestParamInfo<std::string>& info) {
                           return "Model" + info.param.substr(0, 2);
                         });

}  // namespace
}  // namespace linchpin
