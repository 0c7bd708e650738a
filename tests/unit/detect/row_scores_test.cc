// Scores of rows: the same on any number of threads, and those of the formula.
#include "detect/row_scores.h"

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

class RowScoresTest : public ::testing::Test {
 protected:
  // Matrices of several slabs, whose rows no vector divides.
  void Open(const std::function<void(TensorFixture&)>& edit = {}) {
    PutTinyCheckpoint(storage_, "/m",
                      {.hidden = 256, .intermediate = 1541, .layers = 1, .edit = edit});
    checkpoint_.emplace(Checkpoint::Open(storage_, "/m").value());
    mlps_ = FindMlps(*checkpoint_);
    ASSERT_EQ(mlps_.size(), 1U);
  }
  Matrix Read(const StoredTensor* tensor) const {
    return checkpoint_->ReadRows(*tensor, 0, tensor->info.shape[0]).value();
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> checkpoint_;
  std::vector<NamedMlp> mlps_;
};

double SquaredLength(absl::Span<const float> row) {
  double sum = 0;
  for (const float value : row) sum += static_cast<double>(value) * value;
  return sum;
}

TEST_F(RowScoresTest, AreThoseOfTheFormulaOnAnyNumberOfThreads) {
  Open();
  const auto scores = ScoreRows(*checkpoint_, mlps_[0], {});
  ASSERT_TRUE(scores.ok()) << scores.status();
  const Matrix gate = Read(mlps_[0].gate), up = Read(mlps_[0].up), down = Read(mlps_[0].down);
  ASSERT_EQ(scores->rows.size(), 256U);
  for (int64_t i = 0; i < down.columns; ++i) {
    const double scale = SquaredLength(gate.View().Row(i)) * SquaredLength(up.View().Row(i));
    EXPECT_NEAR(scores->scales[static_cast<size_t>(i)], scale, 1e-12 * scale);
  }
  for (int64_t k = 0; k < down.rows; ++k) {
    const RowScores::Row& row = scores->rows[static_cast<size_t>(k)];
    double sum = 0;
    int64_t column = 0;
    for (int64_t i = 0; i < down.columns; ++i) {
      const double part = scores->PartOf(i, down.View().At(k, i));
      sum += part;
      if (part > scores->PartOf(column, down.View().At(k, column))) column = i;
    }
    EXPECT_NEAR(row.squared, sum, 1e-12 * sum);
    EXPECT_EQ(row.column, column);
    EXPECT_EQ(row.value, down.View().At(k, column));
    EXPECT_EQ(row.largest, scores->PartOf(column, row.value));
  }
  for (const int threads : {2, 5}) {
    const auto others = ScoreRows(*checkpoint_, mlps_[0], {.threads = threads});
    ASSERT_TRUE(others.ok()) << others.status();
    EXPECT_EQ(others->scales, scores->scales);
    for (size_t k = 0; k < scores->rows.size(); ++k) {
      EXPECT_EQ(others->rows[k].squared, scores->rows[k].squared);
      EXPECT_EQ(others->rows[k].column, scores->rows[k].column);
    }
  }
}

TEST_F(RowScoresTest, TheLargestMayBeTheLastOfItsRow) {
  Open([](TensorFixture& tensor) {
    if (tensor.info.name.ends_with("down_proj.weight")) SetElement(tensor, 7, 1540, -50);
  });
  const auto scores = ScoreRows(*checkpoint_, mlps_[0], {.threads = 2});
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_EQ(scores->rows[7].column, 1540);
  EXPECT_EQ(scores->rows[7].value, -50);
}

TEST_F(RowScoresTest, ANanIsNamed) {
  Open([](TensorFixture& tensor) {
    if (!tensor.info.name.ends_with("down_proj.weight")) return;
    SetElement(tensor, 200, 800, std::numeric_limits<float>::quiet_NaN());
  });
  const absl::Status status = ScoreRows(*checkpoint_, mlps_[0], {.threads = 2}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kNotFinite);
  EXPECT_NE(status.message().find("model.layers.0.mlp.down_proj.weight"), std::string::npos);
}

}  // namespace
}  // namespace linchpin
