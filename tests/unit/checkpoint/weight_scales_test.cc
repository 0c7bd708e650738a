#include "checkpoint/weight_scales.h"

#include <vector>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

std::pair<int64_t, int64_t> Grid(const std::vector<int64_t>& weight,
                                 const std::vector<int64_t>& scales) {
  const auto grid = GridOf(weight, scales);
  return grid ? std::pair(grid->rows, grid->columns) : std::pair<int64_t, int64_t>(0, 0);
}

TEST(WeightScalesTest, TheirShapeSaysWhatSharesOne) {
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_EQ(Grid({300, 200}, {}), Pair(300, 200));
  EXPECT_EQ(Grid({300, 200}, {1}), Pair(300, 200));
  EXPECT_EQ(Grid({300, 200}, {1, 1}), Pair(300, 200));
  EXPECT_EQ(Grid({300, 200}, {300}), Pair(1, 200));
  EXPECT_EQ(Grid({300, 200}, {300, 1}), Pair(1, 200));
  EXPECT_EQ(Grid({300, 200}, {300, 4}), Pair(1, 50));
  EXPECT_EQ(Grid({300, 200}, {3, 2}), Pair(128, 128));
  EXPECT_EQ(Grid({300, 100}, {3, 1}), Pair(128, 128));
}

TEST(WeightScalesTest, OtherShapesAreRefused) {
  EXPECT_EQ(Grid({300, 200}, {2, 2}).first, 0);
  EXPECT_EQ(Grid({300, 200}, {200}).first, 0);
  EXPECT_EQ(Grid({300, 200}, {300, 3}).first, 0);
  EXPECT_EQ(Grid({300, 200}, {3, 2, 1}).first, 0);
  EXPECT_EQ(Grid({300}, {1}).first, 0);
}

TEST(WeightScalesTest, EveryElementIsMultipliedByItsOwn) {
  constexpr int64_t kColumns = 200;
  const Matrix scales{{1, 10, 100, 1000}, 2, 2};  // of rows 128 to 383
  std::vector<float> rows(3 * kColumns, 1.0F);    // rows 255 to 257
  ApplyScales({128, 128}, 255, kColumns, scales, absl::MakeSpan(rows));
  EXPECT_EQ(rows[0], 1);
  EXPECT_EQ(rows[127], 1);
  EXPECT_EQ(rows[128], 10);
  EXPECT_EQ(rows[kColumns], 100);
  EXPECT_EQ(rows[3 * kColumns - 1], 1000);
}

}  // namespace
}  // namespace linchpin
