// Products of stored rows, against sums in double, on every instruction set.
#include "forward/row_products.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/float16.h"
#include "tests/support/every_target.h"

namespace linchpin {
namespace {

struct Product {
  Product(DType dtype, int64_t rows, int64_t columns, int64_t tokens)
      : dtype(dtype), rows(rows), columns(columns), tokens(tokens) {
    std::mt19937 random(static_cast<unsigned>(rows * 31 + columns * 7 + tokens));
    std::normal_distribution<float> normal;
    weights.resize(static_cast<size_t>(rows * columns * SizeOf(dtype)));
    for (int64_t i = 0; i < rows * columns; ++i) SetWeight(i, normal(random) * 0.05F);
    x.resize(static_cast<size_t>(tokens * columns));
    for (float& value : x) value = normal(random);
  }

  void SetWeight(int64_t i, float value) {
    StoreAs(dtype, value, weights.data() + i * SizeOf(dtype));
  }
  float Weight(int64_t row, int64_t column) const {
    float value = 0;
    WidenToFloat(dtype, weights.data() + (row * columns + column) * SizeOf(dtype), 1, &value);
    return value;
  }
  // [tokens, rows], of rows [first, first + count) and the tokens from `token` on.
  std::vector<float> Run(int64_t first, int64_t count, int64_t token) const {
    std::vector<float> out(static_cast<size_t>((tokens - token) * count), -1.0F);
    MultiplyRows({dtype, weights.data() + first * columns * SizeOf(dtype), count, columns},
                 x.data() + token * columns, tokens - token, out.data(), count);
    return out;
  }

  DType dtype;
  int64_t rows, columns, tokens;
  std::vector<std::byte> weights;
  std::vector<float> x;
};

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// The bound that the header states, for one ordering of the terms.
void ExpectWithinBound(const Product& product) {
  const std::vector<float> out = product.Run(0, product.rows, 0);
  const double unit = static_cast<double>(product.columns) * 0x1p-24;
  for (int64_t t = 0; t < product.tokens; ++t) {
    for (int64_t r = 0; r < product.rows; ++r) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t k = 0; k < product.columns; ++k) {
        const double term = static_cast<double>(product.Weight(r, k)) *
                            product.x[static_cast<size_t>(t * product.columns + k)];
        sum += term;
        magnitude += std::fabs(term);
      }
      ASSERT_NEAR(out[static_cast<size_t>(t * product.rows + r)], sum,
                  unit / (1 - unit) * magnitude)
          << NameOf(product.dtype) << " row " << r << " token " << t;
    }
  }
}

TEST(RowProductsTest, SumsStayWithinTheBoundOnEveryInstructionSet) {
  OnEveryTarget([](int64_t) {
    for (const DType dtype : kDTypes) {
      for (const int64_t columns : {1, 15, 16, 64, 172, 576}) {
        ExpectWithinBound(Product(dtype, 13, columns, 1));
        ExpectWithinBound(Product(dtype, 7, columns, 11));
      }
    }
  });
}

// What the header says, written out.
float InOrder(const Product& product, int64_t row, int64_t token, bool fused) {
  const auto add = [&](float sum, int64_t k) {
    const float weight = product.Weight(row, k);
    const float x = product.x[static_cast<size_t>(token * product.columns + k)];
    if (fused) return std::fma(weight, x, sum);
    const float term = weight * x;
    return term + sum;
  };
  float lanes[16] = {};
  const int64_t whole = product.columns / 16 * 16;
  for (int64_t k = 0; k < whole; ++k) lanes[k % 16] = add(lanes[k % 16], k);
  for (int64_t half = 8; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  float sum = lanes[0];
  for (int64_t k = whole; k < product.columns; ++k) sum = add(sum, k);
  return sum;
}

// So that a processor with AVX2 and one with AVX-512 choose the same scales.
TEST(RowProductsTest, SumsAreTakenInOneOrderOnEveryInstructionSet) {
  OnEveryTarget([](int64_t target) {
    for (const DType dtype : kDTypes) {
      for (const int64_t columns : {1, 15, 16, 47, 576}) {
        const Product product(dtype, 13, columns, 9);
        const std::vector<float> out = product.Run(0, product.rows, 0);
        for (int64_t t = 0; t < product.tokens; ++t) {
          for (int64_t r = 0; r < product.rows; ++r) {
            ASSERT_EQ(out[static_cast<size_t>(t * product.rows + r)],
                      InOrder(product, r, t, FusesProducts(target)))
                << NameOf(dtype) << " row " << r << " token " << t << " of " << columns;
          }
        }
      }
    }
  });
}

// So that slabs may be cut anywhere and given to any thread.
TEST(RowProductsTest, ASumDoesNotDependOnItsNeighbours) {
  OnEveryTarget([](int64_t) {
    for (const DType dtype : kDTypes) {
      const Product product(dtype, 13, 100, 9);
      const std::vector<float> all = product.Run(0, 13, 0);
      for (int64_t row = 0; row < 13; ++row) {
        for (int64_t token = 0; token < 9; ++token) {
          ASSERT_EQ(product.Run(row, 1, token).front(), all[static_cast<size_t>(token * 13 + row)]);
        }
      }
    }
  });
}

// Every value of 16 bits comes through as float16.h reads it: times one, plus nothing.
TEST(RowProductsTest, EveryWeightOf16BitsIsWidenedExactly) {
  OnEveryTarget([](int64_t) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      constexpr int64_t kRows = 1 << 16;
      constexpr int64_t kColumns = 16;
      Product product(dtype, kRows, kColumns, 1);
      std::fill(product.weights.begin(), product.weights.end(), std::byte{0});
      std::fill(product.x.begin(), product.x.end(), 0.0F);
      product.x[3] = 1;
      for (int64_t bits = 0; bits < kRows; ++bits) {
        const auto value = static_cast<uint16_t>(bits);
        std::memcpy(product.weights.data() + (bits * kColumns + 3) * 2, &value, 2);
      }
      const std::vector<float> out = product.Run(0, kRows, 0);
      for (int64_t bits = 0; bits < kRows; ++bits) {
        const float expected = product.Weight(bits, 3);
        const float actual = out[static_cast<size_t>(bits)];
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(actual)) << NameOf(dtype) << " " << bits;
        } else {
          ASSERT_EQ(actual, expected) << NameOf(dtype) << " " << bits;
        }
      }
    }
  });
}

TEST(RowProductsTest, WhatIsNotFiniteStaysSo) {
  OnEveryTarget([](int64_t) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
      Product product(DType::kBF16, 5, 40, 2);
      product.SetWeight(2 * 40 + 39, bad);
      const std::vector<float> out = product.Run(0, 5, 0);
      EXPECT_FALSE(std::isfinite(out[2]));
      EXPECT_TRUE(std::isfinite(out[1]) && std::isfinite(out[3]));
    }
  });
}

}  // namespace
}  // namespace linchpin
