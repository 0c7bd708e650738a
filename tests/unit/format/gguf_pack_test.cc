#include "format/gguf_pack.h"

#include <cmath>
#include <random>
#include <string_view>
#include <vector>

#include "format/gguf_blocks.h"
#include "gtest/gtest.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

// What the reader, which is held against gguf-py, makes of a block.
std::vector<float> Read(std::string_view name, const std::vector<uint8_t>& block) {
  for (uint32_t id = 0; const GgufBlockType* type = FindGgufBlockType(id); ++id) {
    if (type->name != name) continue;
    EXPECT_EQ(static_cast<size_t>(type->bytes), block.size());
    std::vector<float> values(static_cast<size_t>(type->elements));
    type->decode(reinterpret_cast<const std::byte*>(block.data()), 1, values.data());
    return values;
  }
  return {};
}

std::mt19937 random_bits(5);

uint8_t Bits(int count) { return static_cast<uint8_t>(random_bits() & ((1U << count) - 1)); }

AffineSuperBlock RandomAffine(int bits) {
  AffineSuperBlock block;
  block.scale = ToF16(0.25F);
  block.offset = ToF16(0.5F);
  for (uint8_t& scale : block.scales) scale = Bits(6);
  for (uint8_t& offset : block.offsets) offset = Bits(6);
  for (uint8_t& code : block.codes) code = Bits(bits);
  return block;
}

void ExpectRead(const std::vector<float>& values, const AffineSuperBlock& block) {
  for (int i = 0; i < 256; ++i) {
    const int group = i / 32;
    const float expected = 0.25F * static_cast<float>(block.scales[group] * block.codes[i]) -
                           0.5F * static_cast<float>(block.offsets[group]);
    ASSERT_EQ(values[static_cast<size_t>(i)], expected) << i;
  }
}

TEST(GgufPack, TheReaderFindsEveryCodeAndScaleOfQ4_K) {
  for (int round = 0; round < 20; ++round) {
    const AffineSuperBlock block = RandomAffine(4);
    std::vector<uint8_t> bytes(144, 0xee);
    PackQ4_K(block, bytes.data());
    ExpectRead(Read("Q4_K", bytes), block);
  }
}

TEST(GgufPack, TheReaderFindsEveryCodeAndScaleOfQ5_K) {
  for (int round = 0; round < 20; ++round) {
    const AffineSuperBlock block = RandomAffine(5);
    std::vector<uint8_t> bytes(176, 0xee);
    PackQ5_K(block, bytes.data());
    ExpectRead(Read("Q5_K", bytes), block);
  }
}

TEST(GgufPack, TheReaderFindsEveryCodeAndScaleOfQ6_K) {
  for (int round = 0; round < 20; ++round) {
    SignedSuperBlock block;
    block.scale = ToF16(-0.25F);
    for (int8_t& scale : block.scales) scale = static_cast<int8_t>(Bits(8));
    for (uint8_t& code : block.codes) code = Bits(6);
    std::vector<uint8_t> bytes(210, 0xee);
    PackQ6_K(block, bytes.data());
    const std::vector<float> values = Read("Q6_K", bytes);
    for (int i = 0; i < 256; ++i) {
      const int group = i / 16;
      ASSERT_EQ(values[static_cast<size_t>(i)],
                -0.25F * static_cast<float>(block.scales[group] * (block.codes[i] - 32)))
          << i;
    }
  }
}

TEST(GgufPack, TheReaderFindsEveryCodeOfTheSmallBlocks) {
  for (int round = 0; round < 20; ++round) {
    std::vector<uint8_t> codes(32);
    for (uint8_t& code : codes) code = Bits(5);
    std::vector<uint8_t> bytes(22, 0xee);
    PackHalf(ToF16(0.5F), bytes.data());
    PackFifthBits(codes.data(), bytes.data() + 2);
    PackNibbles(codes.data(), bytes.data() + 6);
    const std::vector<float> five = Read("Q5_0", bytes);
    bytes.erase(bytes.begin() + 2, bytes.begin() + 6);
    const std::vector<float> four = Read("Q4_0", bytes);
    for (size_t i = 0; i < 32; ++i) {
      EXPECT_EQ(five[i], 0.5F * static_cast<float>(codes[i] - 16));
      EXPECT_EQ(four[i], 0.5F * static_cast<float>((codes[i] & 15) - 8));
    }
  }
}

}  // namespace
}  // namespace linchpin
