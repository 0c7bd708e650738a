// Weights as a pass reads them: in slabs, by channel, as a product.
#include "forward/checkpoint_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/run_context.h"
#include "base/status.h"
#include "forward/model_tensors.h"
#include "storage/memory_storage.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

constexpr char kDown[] = "model.layers.0.mlp.down_proj.weight";
constexpr int64_t kRows = 64, kColumns = 160;

// Shows weights in reverse.
struct ReversingLens : LinearLens {
  struct Reversed : SeenWeight {
    const Checkpoint* checkpoint = nullptr;
    const StoredTensor* weight = nullptr;

    absl::Status Read(int64_t first, absl::Span<float> out) const override {
      const auto count = static_cast<int64_t>(out.size()) / kColumns;
      RETURN_IF_ERROR(checkpoint->ReadRows(*weight, first, count, out));
      for (float& value : out) value = -value;
      return absl::OkStatus();
    }
  };
  absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(const Checkpoint& checkpoint,
                                                         const StoredTensor& weight,
                                                         const RunContext&) const override {
    auto seen = std::make_unique<Reversed>();
    seen->checkpoint = &checkpoint;
    seen->weight = &weight;
    return seen;
  }
};

class CheckpointWeightsTest : public testing::TestWithParam<DType> {
 protected:
  CheckpointWeightsTest() {
    PutTinyCheckpoint(storage_, "/m", {.dtype = GetParam()});
    checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::Open(storage_, "/m").value());
    stored_ = checkpoint_->ReadRows(**checkpoint_->Find(kDown), 0, kRows)->data;
  }

  static LinearTensors Down(bool transposed = false) {
    return {{kDown, {kRows, kColumns}}, {}, transposed};
  }
  std::shared_ptr<const WeightReader> Reader(const LinearLens* lens = nullptr) {
    return ReaderOf(*checkpoint_, lens);
  }

  MemoryStorage storage_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<float> stored_;  // [kRows, kColumns]
};

TEST_P(CheckpointWeightsTest, AChannelIsARowOrAColumn) {
  std::vector<float> row(kColumns), column(kRows);
  ASSERT_TRUE(Reader()->ReadChannel(Down(), 7, absl::MakeSpan(row)).ok());
  ASSERT_TRUE(Reader()->ReadChannel(Down(true), 7, absl::MakeSpan(column)).ok());
  for (size_t i = 0; i < kColumns; ++i) EXPECT_EQ(row[i], stored_[7 * kColumns + i]);
  for (size_t i = 0; i < kRows; ++i) EXPECT_EQ(column[i], stored_[i * kColumns + 7]);
}

TEST_P(CheckpointWeightsTest, ALensShowsChannelsAndWholeWeights) {
  const ReversingLens lens;
  std::vector<float> row(kColumns), column(kRows), all(stored_.size());
  ASSERT_TRUE(Reader(&lens)->ReadChannel(Down(), 7, absl::MakeSpan(row)).ok());
  ASSERT_TRUE(Reader(&lens)->ReadChannel(Down(true), 7, absl::MakeSpan(column)).ok());
  ASSERT_TRUE(Reader(&lens)->ReadWeight(Down(), {}, absl::MakeSpan(all)).ok());
  for (size_t i = 0; i < kColumns; ++i) EXPECT_EQ(row[i], -stored_[7 * kColumns + i]);
  for (size_t i = 0; i < kRows; ++i) EXPECT_EQ(column[i], -stored_[i * kColumns + 7]);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], -stored_[i]);
}

TEST_P(CheckpointWeightsTest, RowsStayAsTheyAreStored) {
  std::vector<float> memory(3 * kColumns);
  const auto rows = Reader()->ReadRows(Down().weight, 5, 3, absl::MakeSpan(memory));
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->dtype, GetParam());
  EXPECT_EQ(rows->rows, 3);
  EXPECT_EQ(rows->columns, kColumns);
  // Times a unit vector: one of their columns.
  std::vector<float> unit(kColumns), out(3);
  unit[11] = 1;
  Reader()->MultiplyRows(*rows, unit.data(), 1, out.data(), 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(out[i], stored_[(5 + i) * kColumns + 11]);
}

TEST_P(CheckpointWeightsTest, AProductIsTheSameOnOneThreadAndOnMany) {
  constexpr int64_t kTokens = 5;
  std::vector<float> x(kTokens * kColumns);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  std::vector<float> one(kTokens * kRows), four(kTokens * kRows);
  const MatrixView view{x.data(), kTokens, kColumns};
  ASSERT_TRUE(Reader()->Multiply(Down(), view, one.data(), RunContext{.threads = 1}).ok());
  ASSERT_TRUE(Reader()->Multiply(Down(), view, four.data(), RunContext{.threads = 4}).ok());
  EXPECT_EQ(one, four);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t r = 0; r < kRows; ++r) {
      double sum = 0, absolute = 0;
      for (int64_t k = 0; k < kColumns; ++k) {
        const double product = static_cast<double>(stored_[static_cast<size_t>(r * kColumns + k)]) *
                               static_cast<double>(x[static_cast<size_t>(t * kColumns + k)]);
        sum += product;
        absolute += std::abs(product);
      }
      // Higham's bound, as forward/row_products.h gives it.
      EXPECT_NEAR(one[static_cast<size_t>(t * kRows + r)], sum, 2 * kColumns * 0x1p-24 * absolute);
    }
  }
}

TEST_P(CheckpointWeightsTest, AStopEndsAProduct) {
  std::stop_source stop;
  stop.request_stop();
  std::vector<float> x(kColumns), out(kRows);
  const absl::Status status = Reader()->Multiply(Down(), {x.data(), 1, kColumns}, out.data(),
                                                 RunContext{.stop = stop.get_token()});
  EXPECT_EQ(ReasonOf(status), Reason::kCancelled);
}

TEST_P(CheckpointWeightsTest, AWeightThatIsNotThereIsNamed) {
  std::vector<float> out(1);
  for (const absl::Status& status :
       {Reader()->ReadTensor({"lost", {1}}, absl::MakeSpan(out)),
        Reader()->ReadRows({"lost", {1, 1}}, 0, 1, absl::MakeSpan(out)).status(),
        Reader()->ReadChannel({{"lost", {1, 1}}, {}}, 0, absl::MakeSpan(out))}) {
    EXPECT_EQ(ReasonOf(status), Reason::kTensorMissing);
    EXPECT_NE(status.message().find("lost"), std::string::npos) << status;
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, CheckpointWeightsTest,
                         testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& tested) { return std::string(NameOf(tested.param)); });

}  // namespace
}  // namespace linchpin
