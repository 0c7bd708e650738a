#include "tensor/tensor_info.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "tensor/matrix.h"
#include "tensor/weight_position.h"

namespace linchpin {
namespace {

constexpr int64_t kMost = INT64_MAX;

TEST(ElementCount, MultipliesTheDimensions) {
  EXPECT_EQ(ElementCount({}), 1) << "a scalar";
  EXPECT_EQ(ElementCount({7}), 7);
  EXPECT_EQ(ElementCount({2, 3, 4}), 24);
  EXPECT_EQ(ElementCount({kMost}), kMost);
  EXPECT_EQ(ElementCount({int64_t{1} << 31, int64_t{1} << 31}), int64_t{1} << 62);
}

TEST(ElementCount, RefusesWhatDoesNotFit) {
  EXPECT_FALSE(ElementCount({-1}).has_value());
  EXPECT_FALSE(ElementCount({0, -1}).has_value());
  EXPECT_FALSE(ElementCount({kMost, 2}).has_value());
  EXPECT_FALSE(ElementCount({int64_t{1} << 32, int64_t{1} << 31}).has_value());
  EXPECT_FALSE(ElementCount({int64_t{1} << 32, int64_t{1} << 32}).has_value()) << "wraps to 0";
}

TEST(ElementCount, ZeroDimensionsDoNotHideAnOverflow) {
  EXPECT_EQ(ElementCount({0}), 0);
  EXPECT_EQ(ElementCount({5, 0, 3}), 0);
  EXPECT_FALSE(ElementCount({0, kMost, kMost}).has_value());
  EXPECT_FALSE(ElementCount({kMost, kMost, 0}).has_value());
}

TEST(ByteSize, IsElementsTimesTheirSize) {
  EXPECT_EQ(ByteSize({"w", DType::kBF16, {3, 5}}), 30);
  EXPECT_EQ(ByteSize({"w", DType::kI64, {}}), 8);
  EXPECT_EQ(ByteSize({"w", DType::kF32, {0, 5}}), 0);
  EXPECT_EQ(ByteSize({"w", DType::kU8, {kMost}}), kMost);
  EXPECT_FALSE(ByteSize({"w", DType::kF16, {kMost}}).has_value());
  EXPECT_FALSE(ByteSize({"w", DType::kF32, {-4}}).has_value());
}

TEST(ShapeText, ReadsAsInPython) {
  EXPECT_EQ(ShapeText({64, 256}), "[64, 256]");
  EXPECT_EQ(ShapeText({}), "[]");
}

TEST(Matrix, IsRowMajor) {
  const Matrix matrix{{1, 2, 3, 4, 5, 6}, 2, 3};
  const MatrixView view = matrix.View();
  EXPECT_EQ(view.At(1, 0), 4);
  EXPECT_EQ(view.Row(1)[2], 6);
  EXPECT_EQ(view.Row(0).size(), 3u);
}

TEST(WeightPosition, OrdersByTensorThenRowThenColumn) {
  EXPECT_LT((WeightPosition{"a", 9, 9}), (WeightPosition{"b", 0, 0}));
  EXPECT_LT((WeightPosition{"a", 1, 9}), (WeightPosition{"a", 2, 0}));
  EXPECT_LT((WeightPosition{"a", 1, 1}), (WeightPosition{"a", 1, 2}));
  EXPECT_EQ((PinnedWeight{{"a", 1, 1}, 2}), (PinnedWeight{{"a", 1, 1}, 2}));
}

}  // namespace
}  // namespace linchpin
