// WidenToFloat in bulk, on every instruction set, against one element at a time.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/float16.h"
#include "tests/support/every_target.h"

namespace linchpin {
namespace {

void ExpectSame(float actual, float expected) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(actual));
  } else {
    EXPECT_EQ(std::bit_cast<uint32_t>(actual), std::bit_cast<uint32_t>(expected)) << expected;
  }
}

// All 65,536 patterns, one byte behind where they would be aligned.
std::vector<std::byte> UnalignedPatterns() {
  std::vector<std::byte> bytes(1 + 2 * 65536);
  for (int pattern = 0; pattern < 65536; ++pattern) {
    const auto bits = static_cast<uint16_t>(pattern);
    std::memcpy(bytes.data() + 1 + 2 * pattern, &bits, 2);
  }
  return bytes;
}

TEST(WidenTest, EveryPatternIsAsOneByOneOnEveryInstructionSet) {
  const std::vector<std::byte> bytes = UnalignedPatterns();
  OnEveryTarget([&](int64_t) {
    for (const auto& [dtype, one] : {std::pair{DType::kBF16, &FromBF16}, {DType::kF16, &FromF16}}) {
      std::vector<float> out(65536);
      WidenToFloat(dtype, bytes.data() + 1, 65536, out.data());
      for (int pattern = 0; pattern < 65536; ++pattern) {
        ExpectSame(out[static_cast<size_t>(pattern)], one(static_cast<uint16_t>(pattern)));
      }
    }
  });
}

TEST(WidenTest, WritesAsManyAsAreAskedForAndNoMore) {
  const std::vector<std::byte> bytes = UnalignedPatterns();
  constexpr int kFirst = 0x3c00;
  OnEveryTarget([&](int64_t) {
    for (int count = 0; count <= 70; ++count) {
      std::vector<float> out(static_cast<size_t>(count) + 1, -7.0F);
      WidenToFloat(DType::kF16, bytes.data() + 1 + 2 * kFirst, count, out.data());
      for (int i = 0; i < count; ++i) {
        EXPECT_EQ(out[static_cast<size_t>(i)], FromF16(static_cast<uint16_t>(kFirst + i)));
      }
      EXPECT_EQ(out.back(), -7.0F) << count;
    }
  });
}

}  // namespace
}  // namespace linchpin
