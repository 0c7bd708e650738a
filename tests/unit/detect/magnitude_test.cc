// Ranks and columns, against counting and sorting whole matrices.
#include "detect/magnitude.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

constexpr const char* kName = "model.layers.0.mlp.down_proj.weight";

class MagnitudesTest : public ::testing::Test {
 protected:
  // A matrix of several slabs.
  void SetUp() override {
    PutTinyCheckpoint(storage_, "/m", {.hidden = 256, .intermediate = 1536, .layers = 1});
    checkpoint_.emplace(Checkpoint::Open(storage_, "/m").value());
    const StoredTensor* tensor = checkpoint_->Find(kName).value();
    weights_ = checkpoint_->ReadRows(*tensor, 0, tensor->info.shape[0]).value();
    linear_.weight = {kName, tensor->info.shape};
    sorted_ = weights_.data;
    for (float& value : sorted_) value = std::fabs(value);
    std::sort(sorted_.begin(), sorted_.end(), std::greater<>());
  }
  int64_t Rank(float value) const {
    return 1 + std::count_if(sorted_.begin(), sorted_.end(),
                             [value](float other) { return other > std::fabs(value); });
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> checkpoint_;
  Matrix weights_;
  LinearTensors linear_;
  std::vector<float> sorted_;
  DetectOptions options_;
};

TEST_F(MagnitudesTest, RanksThoseThatMayBeOutliersAndNoOthers) {
  for (const int threads : {1, 4}) {
    for (const int64_t most : {1, 10, 500}) {
      options_.top_weights = most;
      Magnitudes magnitudes(*checkpoint_, options_);
      for (size_t i = 0; i < sorted_.size(); i += i < 600 ? 1 : 5000) {
        const float value = i % 2 == 0 ? sorted_[i] : -sorted_[i];
        const auto rank = magnitudes.RankOf(linear_, value, {.threads = threads});
        ASSERT_TRUE(rank.ok()) << rank.status();
        const std::optional<int64_t> wanted =
            Rank(value) <= most ? std::optional(Rank(value)) : std::nullopt;
        EXPECT_EQ(*rank, wanted) << i << " of at most " << most;
      }
    }
  }
}

TEST_F(MagnitudesTest, APartOfTheMatrixBoundsTheRank) {
  options_.top_weight_fraction = 20.0F / static_cast<float>(sorted_.size());
  Magnitudes magnitudes(*checkpoint_, options_);
  EXPECT_TRUE(magnitudes.RankOf(linear_, sorted_[10], {})->has_value());
  EXPECT_FALSE(magnitudes.RankOf(linear_, sorted_[200], {})->has_value());
  options_.top_weight_fraction = 0;  // the largest may always be one
  Magnitudes strict(*checkpoint_, options_);
  EXPECT_EQ(*strict.RankOf(linear_, sorted_[0], {}), 1);
  EXPECT_FALSE(strict.RankOf(linear_, sorted_[50], {})->has_value());
}

TEST_F(MagnitudesTest, AColumnIsMeasuredByItsMedian) {
  for (const int threads : {1, 4}) {
    Magnitudes magnitudes(*checkpoint_, options_);
    for (const int64_t column : {0, 77, 1535}) {
      std::vector<float> values;
      for (int64_t row = 0; row < weights_.rows; ++row) {
        values.push_back(std::fabs(weights_.View().At(row, column)));
      }
      std::sort(values.begin(), values.end());
      const float median = values[(values.size() - 1) / 2];
      EXPECT_EQ(*magnitudes.OverColumn(linear_, column, -3, {.threads = threads}), 3 / median);
    }
  }
}

TEST_F(MagnitudesTest, AColumnOfATransposedMatrixIsARow) {
  linear_.transposed = true;
  std::vector<float> values;
  for (const float value : weights_.View().Row(200)) values.push_back(std::fabs(value));
  std::sort(values.begin(), values.end());
  Magnitudes magnitudes(*checkpoint_, options_);
  EXPECT_EQ(*magnitudes.OverColumn(linear_, 200, 3, {.threads = 2}),
            3 / values[(values.size() - 1) / 2]);
}

// Where hundreds of ordinary weights made large products, each read its matrix again: a pass of
// half a second took 23.
TEST_F(MagnitudesTest, HundredsOfProductsReadTheirMatrixOnce) {
  Magnitudes magnitudes(*checkpoint_, options_);
  ASSERT_EQ(*magnitudes.RankOf(linear_, sorted_[0], {}), 1);
  ASSERT_TRUE(magnitudes.OverColumn(linear_, 5, 1, {}).ok());
  const float column = *magnitudes.OverColumn(linear_, 5, 1, {});
  const MemoryStorage::Bytes bytes = storage_.Get("/m/model.safetensors");
  ASSERT_NE(bytes, nullptr);
  std::memset(bytes->data(), 0, bytes->size());  // what reads again finds other weights
  EXPECT_EQ(*magnitudes.RankOf(linear_, sorted_[7], {}), Rank(sorted_[7]));
  EXPECT_EQ(*magnitudes.OverColumn(linear_, 5, 1, {}), column);
}

TEST_F(MagnitudesTest, AStopEndsTheReading) {
  std::stop_source stop;
  stop.request_stop();
  Magnitudes magnitudes(*checkpoint_, options_);
  const RunContext context{.stop = stop.get_token()};
  EXPECT_EQ(ReasonOf(magnitudes.RankOf(linear_, 1, context).status()), Reason::kCancelled);
  EXPECT_TRUE(magnitudes.RankOf(linear_, 100, {})->has_value());  // and nothing of it stays
}

}  // namespace
}  // namespace linchpin
