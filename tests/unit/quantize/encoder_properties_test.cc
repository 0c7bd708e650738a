// What must hold of every encoder whatever the weights: drawn at random, a fixed number of times.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quantize/block_encoder.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"
#include "tensor/float8.h"

namespace linchpin {
namespace {

constexpr uint32_t kSeeds = 6;
constexpr Coding kCodings[] = {{CodeKind::kPackedInt, 4, false},
                               {CodeKind::kPackedInt, 4, true},
                               {CodeKind::kPackedInt, 8, false},
                               {CodeKind::kInt8, 8, false},
                               {CodeKind::kFloat8, 8, false}};
constexpr ScaleRule kRules[] = {ScaleRule::kImportance, ScaleRule::kSigned, ScaleRule::kMinMax,
                                ScaleRule::kMse};
constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr const char* kTypes[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};

// A matrix, and how much each of its columns matters.
struct Drawn {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<float> weights;
  std::vector<float> importance;

  Drawn(int64_t rows, int64_t columns, uint32_t seed) : rows(rows), columns(columns) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 0.0625F);
    for (int64_t i = 0; i < rows * columns; ++i) {
      const float value = FromBF16(ToBF16(normal(random)));
      weights.push_back(random() % 64 == 0 ? 4 * value : value);
    }
    for (int64_t i = 0; i < columns; ++i) {
      const auto value = static_cast<float>(1 + random() % 4096) / 64;
      importance.push_back(random() % 16 == 0 ? 256 * value : value);
    }
  }

  // The same with `new_rows` of `new_columns` taken from these.
  Drawn Take(const std::vector<int64_t>& new_rows, const std::vector<int64_t>& new_columns) const {
    Drawn taken = *this;
    taken.rows = static_cast<int64_t>(new_rows.size());
    taken.columns = static_cast<int64_t>(new_columns.size());
    taken.weights.clear();
    taken.importance.clear();
    for (const int64_t row : new_rows) {
      for (const int64_t column : new_columns) {
        taken.weights.push_back(weights[static_cast<size_t>(row * columns + column)]);
      }
    }
    for (const int64_t column : new_columns) {
      taken.importance.push_back(importance[static_cast<size_t>(column)]);
    }
    return taken;
  }
};

std::vector<int64_t> Range(int64_t first, int64_t count) {
  std::vector<int64_t> range(static_cast<size_t>(count));
  std::iota(range.begin(), range.end(), first);
  return range;
}

std::vector<int64_t> Shuffled(std::vector<int64_t> range, uint32_t seed) {
  std::mt19937 random(seed);
  // Written out: std::shuffle is not the same in every library.
  for (size_t i = range.size(); i > 1; --i) std::swap(range[i - 1], range[random() % i]);
  return range;
}

std::vector<float> Times(std::vector<float> values, float factor) {
  for (float& value : values) value *= factor;
  return values;
}

struct Grouped {
  int64_t group = 0;
  std::vector<float> codes;   // of each element
  std::vector<float> scales;  // of each group
  std::vector<float> zeros;   // likewise
};

struct Grouping {
  Coding coding;
  ScaleRule rule = ScaleRule::kImportance;
  DType scale_dtype = DType::kBF16;
  int64_t group = 0;

  std::string name() const {
    return std::string(NameOf(rule)) + ", " + std::to_string(coding.bits) + " bits" +
           (coding.asymmetric ? ", asymmetric" : "") +
           (coding.kind == CodeKind::kFloat8 ? ", float" : "") + ", scales in " +
           std::string(NameOf(scale_dtype));
  }

  Grouped Encode(const Drawn& drawn) const {
    const int64_t groups = drawn.rows * drawn.columns / group;
    std::vector<std::byte> codes(static_cast<size_t>(drawn.rows * coding.RowBytes(drawn.columns)));
    std::vector<std::byte> scales(static_cast<size_t>(groups * SizeOf(scale_dtype)));
    std::vector<int8_t> zeros(static_cast<size_t>(groups));
    EncodeGroups({.dtype = DType::kF32,
                  .scale_dtype = scale_dtype,
                  .coding = coding,
                  .rows = drawn.rows,
                  .columns = drawn.columns,
                  .group_size = group,
                  .rule = rule,
                  .importance = drawn.importance,
                  .weights = reinterpret_cast<const std::byte*>(drawn.weights.data()),
                  .codes = codes.data(),
                  .scales = scales.data(),
                  .zeros = coding.asymmetric ? zeros.data() : nullptr});
    Grouped found{.group = group, .zeros = {zeros.begin(), zeros.end()}};
    found.scales.resize(zeros.size());
    WidenToFloat(scale_dtype, scales.data(), groups, found.scales.data());
    for (size_t i = 0; i < drawn.weights.size(); ++i) found.codes.push_back(CodeAt(codes, i));
    return found;
  }

  float CodeAt(const std::vector<std::byte>& codes, size_t i) const {
    const auto byte = static_cast<uint8_t>(codes[i * static_cast<size_t>(coding.bits) / 8]);
    if (coding.kind == CodeKind::kFloat8) return FromF8E4M3(byte);
    if (coding.kind == CodeKind::kInt8) return static_cast<float>(static_cast<int8_t>(byte));
    if (coding.bits == 8) return static_cast<float>(byte) - 128;
    return static_cast<float>(i % 2 == 0 ? byte & 15 : byte >> 4) - 8;
  }
};

// Calls `check(grouping, seed)` for all codings, rules and dtypes of scales.
template <typename Check>
void ForEachGrouping(int64_t group, const Check& check) {
  for (const Coding& coding : kCodings) {
    for (const ScaleRule rule : kRules) {
      if (coding.asymmetric && rule == ScaleRule::kSigned) continue;
      for (const DType dtype : kDTypes) {
        for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
          const Grouping grouping{coding, rule, dtype, group};
          SCOPED_TRACE(grouping.name() + ", seed " + std::to_string(seed));
          check(grouping, seed);
        }
      }
    }
  }
}

TEST(GroupPropertiesTest, TwiceTheWeightsHaveTheSameCodesAndTwiceTheScales) {
  ForEachGrouping(32, [](const Grouping& grouping, uint32_t seed) {
    const Drawn drawn(19, 96, seed);
    const Grouped once = grouping.Encode(drawn);
    for (const float factor : {8.0F, 64.0F}) {
      Drawn larger = drawn;
      larger.weights = Times(drawn.weights, factor);
      const Grouped found = grouping.Encode(larger);
      EXPECT_EQ(found.codes, once.codes);
      EXPECT_EQ(found.zeros, once.zeros);
      EXPECT_EQ(found.scales, Times(once.scales, factor));
    }
  });
}

TEST(GroupPropertiesTest, RowsInAnotherOrderHaveTheirCodesInThatOrder) {
  ForEachGrouping(32, [](const Grouping& grouping, uint32_t seed) {
    const Drawn drawn(37, 64, seed);
    const Grouped plain = grouping.Encode(drawn);
    const std::vector<int64_t> order = Shuffled(Range(0, 37), seed);
    const Grouped found = grouping.Encode(drawn.Take(order, Range(0, 64)));
    for (int64_t row = 0; row < 37; ++row) {
      const int64_t from = order[static_cast<size_t>(row)];
      const auto same = [&](const std::vector<float>& a, const std::vector<float>& b, int64_t n) {
        return std::equal(a.begin() + row * n, a.begin() + (row + 1) * n, b.begin() + from * n);
      };
      EXPECT_TRUE(same(found.codes, plain.codes, 64)) << row;
      EXPECT_TRUE(same(found.scales, plain.scales, 2)) << row;
      EXPECT_TRUE(same(found.zeros, plain.zeros, 2)) << row;
    }
  });
}

TEST(GroupPropertiesTest, AGroupAloneIsAsInItsRow) {
  ForEachGrouping(32, [](const Grouping& grouping, uint32_t seed) {
    const Drawn drawn(19, 128, seed);
    const Grouped whole = grouping.Encode(drawn);
    for (int64_t group = 0; group < 4; ++group) {
      const Grouped alone = grouping.Encode(drawn.Take(Range(0, 19), Range(group * 32, 32)));
      for (int64_t row = 0; row < 19; ++row) {
        const auto at = static_cast<size_t>(row);
        const auto there = static_cast<size_t>(row * 4 + group);
        EXPECT_EQ(alone.scales[at], whole.scales[there]);
        EXPECT_EQ(alone.zeros[at], whole.zeros[there]);
        EXPECT_TRUE(std::equal(alone.codes.begin() + row * 32, alone.codes.begin() + row * 32 + 32,
                               whole.codes.begin() + (row * 4 + group) * 32));
      }
    }
  });
}

TEST(GroupPropertiesTest, OnlyTheRatiosOfImportanceCount) {
  ForEachGrouping(32, [](const Grouping& grouping, uint32_t seed) {
    const Drawn drawn(19, 64, seed);
    const Grouped once = grouping.Encode(drawn);
    for (const float factor : {0x1p-9F, 4.0F, 0x1p20F}) {
      Drawn other = drawn;
      other.importance = Times(drawn.importance, factor);
      const Grouped found = grouping.Encode(other);
      EXPECT_EQ(found.codes, once.codes);
      EXPECT_EQ(found.scales, once.scales);
      EXPECT_EQ(found.zeros, once.zeros);
    }
  });
}

// What is lost in one group of one row, weighed as the rule weighs it.
double Lost(const Drawn& drawn, const Grouped& found, ScaleRule rule, int64_t group) {
  double sum = 0;
  for (int64_t i = group * found.group; i < (group + 1) * found.group; ++i) {
    const auto at = static_cast<size_t>(i);
    const auto of = static_cast<size_t>(group);
    const double off =
        drawn.weights[at] - (found.codes[at] - found.zeros[of]) * double{found.scales[of]};
    const auto column = static_cast<size_t>(i % drawn.columns);
    sum += (rule == ScaleRule::kImportance ? drawn.importance[column] : 1) * off * off;
  }
  return sum;
}

// The scales are the same, or none is the better one: sums of whole numbers have no order, so that
// the same are tried, and only between two that are as good may rounding decide.
TEST(GroupPropertiesTest, ColumnsInAnotherOrderHaveTheSameScales) {
  ForEachGrouping(32, [](const Grouping& grouping, uint32_t seed) {
    if (grouping.coding.kind == CodeKind::kFloat8) return;  // of steps that are no whole numbers
    Drawn drawn(19, 64, seed);
    std::mt19937 random(seed);
    for (float& weight : drawn.weights) {
      weight = (static_cast<float>(random() % 256) - 127.5F) / 512;
    }
    for (float& importance : drawn.importance) importance = static_cast<float>(1 + random() % 7);
    std::vector<int64_t> order = Shuffled(Range(0, 32), seed);
    for (const int64_t column : Shuffled(Range(32, 32), seed + 1)) order.push_back(column);
    const Drawn shuffled = drawn.Take(Range(0, 19), order);
    const Grouped plain = grouping.Encode(drawn);
    const Grouped found = grouping.Encode(shuffled);
    for (int64_t group = 0; group < 19 * 2; ++group) {
      const auto at = static_cast<size_t>(group);
      if (found.scales[at] == plain.scales[at] && found.zeros[at] == plain.zeros[at]) continue;
      const double before = Lost(drawn, plain, grouping.rule, group);
      EXPECT_NEAR(Lost(shuffled, found, grouping.rule, group), before, 2e-6 * before) << group;
    }
  });
}

const GgufBlockType& TypeOf(std::string_view name) {
  uint32_t id = 0;
  while (FindGgufBlockType(id)->name != name) ++id;
  return *FindGgufBlockType(id);
}

// What a reader gets of a row's blocks.  `importance` is normalized, or empty.
std::vector<float> ThroughBlocks(std::string_view name, const Drawn& drawn,
                                 const std::vector<float>& importance) {
  const GgufBlockType& type = TypeOf(name);
  const int64_t count = drawn.rows * drawn.columns / type.elements;
  std::vector<std::byte> blocks(static_cast<size_t>(count * type.bytes));
  EncodeBlocks({.type = &type,
                .rows = drawn.rows,
                .columns = drawn.columns,
                .importance = importance,
                .weights = reinterpret_cast<const std::byte*>(drawn.weights.data()),
                .blocks = blocks.data()});
  std::vector<float> values(drawn.weights.size());
  type.decode(blocks.data(), count, values.data());
  return values;
}

// Calls `check(type, drawn, importance)` with importance and without.
template <typename Check>
void ForEachType(const Check& check) {
  for (const char* name : kTypes) {
    for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
      for (const bool weighed : {false, true}) {
        SCOPED_TRACE(std::string(name) + (weighed ? ", weighed" : "") + ", seed " +
                     std::to_string(seed));
        const Drawn drawn(5, 768, seed);
        check(name, drawn, weighed ? NormalizedImportance(drawn.importance) : std::vector<float>());
      }
    }
  }
}

// Where F16 has all bits of their scales.
TEST(BlockPropertiesTest, TwiceTheWeightsAreReadAsTwiceTheValues) {
  ForEachType([](const char* name, Drawn drawn, const std::vector<float>& importance) {
    drawn.weights = Times(drawn.weights, 16);
    const std::vector<float> once = ThroughBlocks(name, drawn, importance);
    drawn.weights = Times(drawn.weights, 16);
    EXPECT_EQ(ThroughBlocks(name, drawn, importance), Times(once, 16));
  });
}

TEST(BlockPropertiesTest, RowsInAnotherOrderAreReadInThatOrder) {
  ForEachType([](const char* name, const Drawn& drawn, const std::vector<float>& importance) {
    Drawn expected = drawn;
    expected.weights = ThroughBlocks(name, drawn, importance);
    const std::vector<int64_t> order = {3, 0, 4, 2, 1};
    const std::vector<int64_t> columns = Range(0, drawn.columns);
    EXPECT_EQ(ThroughBlocks(name, drawn.Take(order, columns), importance),
              expected.Take(order, columns).weights);
  });
}

TEST(BlockPropertiesTest, ABlockAloneIsAsInItsRow) {
  ForEachType([](const char* name, const Drawn& drawn, const std::vector<float>& importance) {
    Drawn expected = drawn;
    expected.weights = ThroughBlocks(name, drawn, importance);
    const int64_t block = TypeOf(name).elements;
    for (int64_t first = 0; first < drawn.columns; first += block) {
      const std::vector<int64_t> columns = Range(first, block);
      std::vector<float> part;
      if (!importance.empty()) {
        part.assign(importance.begin() + first, importance.begin() + first + block);
      }
      EXPECT_EQ(ThroughBlocks(name, drawn.Take(Range(0, 5), columns), part),
                expected.Take(Range(0, 5), columns).weights)
          << first;
    }
  });
}

TEST(BlockPropertiesTest, OnlyTheRatiosOfImportanceCount) {
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    const Drawn drawn(1, 512, seed);
    for (const float factor : {0x1p-9F, 4.0F, 0x1p20F}) {
      EXPECT_EQ(NormalizedImportance(Times(drawn.importance, factor)),
                NormalizedImportance(drawn.importance))
          << seed;
    }
  }
}

// ggml's own roundings look at the ends of a block alone.
TEST(BlockPropertiesTest, ColumnsOfABlockInAnotherOrderAreReadInThatOrder) {
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
      const Drawn drawn(5, 64, seed);
      Drawn expected = drawn;
      expected.weights = ThroughBlocks(name, drawn, {});
      std::vector<int64_t> order = Shuffled(Range(0, 32), seed);
      for (const int64_t column : Shuffled(Range(32, 32), seed + 1)) order.push_back(column);
      EXPECT_EQ(ThroughBlocks(name, drawn.Take(Range(0, 5), order), {}),
                expected.Take(Range(0, 5), order).weights)
          << name << ", seed " << seed;
    }
  }
}

}  // namespace
}  // namespace linchpin
