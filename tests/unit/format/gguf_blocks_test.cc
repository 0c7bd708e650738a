#include "format/gguf_blocks.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/float16.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

std::vector<float> Decode(const GgufBlockType& type, const std::string& bytes) {
  const auto blocks = static_cast<int64_t>(bytes.size()) / type.bytes;
  std::vector<float> values(static_cast<size_t>(blocks * type.elements));
  const auto* source = reinterpret_cast<const std::byte*>(bytes.data());
  if (type.dtype) {
    WidenToFloat(*type.dtype, source, blocks, values.data());
  } else {
    type.decode(source, blocks, values.data());
  }
  return values;
}

const GgufBlockType* Named(std::string_view name) {
  for (uint32_t id = 0; const GgufBlockType* type = FindGgufBlockType(id); ++id) {
    if (type->name == name) return type;
  }
  return nullptr;
}

class BlockOracle : public ::testing::TestWithParam<const char*> {};

// Values that gguf-py gives for 8 rows of random blocks of 512 elements.
TEST_P(BlockOracle, EveryBitIsThatOfTheReference) {
  LINCHPIN_NEEDS_SHARED();
  const GgufBlockType* type = Named(GetParam());
  ASSERT_NE(type, nullptr);
  ASSERT_TRUE(type->readable());
  const std::string stem = std::string("oracles/packings/gguf/dequant-") + GetParam();
  const std::string blocks = ReadFileText(SharedPath(stem + ".blocks"));
  const std::string expected = ReadFileText(SharedPath(stem + ".f32"));
  ASSERT_EQ(expected.size(), 8u * 512 * sizeof(float));
  ASSERT_EQ(blocks.size(), static_cast<size_t>(8 * 512 / type->elements * type->bytes));
  const std::vector<float> values = Decode(*type, blocks);
  ASSERT_EQ(values.size() * sizeof(float), expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    float wanted;
    std::memcpy(&wanted, expected.data() + i * sizeof(float), sizeof(float));
    // One NaN is as good as another.
    if (std::isnan(wanted) && std::isnan(values[i])) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(wanted))
        << "element " << i << ": " << values[i] << ", not " << wanted;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, BlockOracle,
                         ::testing::Values("BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K",
                                           "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"),
                         [](const auto& info) { return std::string(info.param); });

TEST(GgufBlocks, IdsAreThoseOfGgml) {
  EXPECT_EQ(FindGgufBlockType(0)->name, "F32");
  EXPECT_EQ(FindGgufBlockType(1)->name, "F16");
  EXPECT_EQ(FindGgufBlockType(8)->name, "Q8_0");
  EXPECT_EQ(FindGgufBlockType(14)->name, "Q6_K");
  EXPECT_EQ(FindGgufBlockType(23)->name, "IQ4_XS");
  EXPECT_EQ(FindGgufBlockType(30)->name, "BF16");
  EXPECT_EQ(FindGgufBlockType(39)->name, "MXFP4");
  EXPECT_EQ(FindGgufBlockType(42), nullptr);
  EXPECT_EQ(FindGgufBlockType(UINT32_MAX), nullptr);
}

TEST(GgufBlocks, EveryIdIsItsOwnAndEveryReadableTypeHasASize) {
  std::set<std::string_view> names;
  for (uint32_t id = 0; const GgufBlockType* type = FindGgufBlockType(id); ++id) {
    EXPECT_EQ(type->id, id);
    EXPECT_TRUE(names.insert(type->name).second) << type->name;
    EXPECT_GE(type->elements, 1);
    EXPECT_EQ(type->readable(), type->bytes > 0) << type->name;
    EXPECT_FALSE(type->dtype && type->decode) << type->name;
  }
}

TEST(GgufBlocks, ABlockByHand) {
  // Scale 0.5, codes 0 and 15 in the first byte, 8 (which is zero) in all others.
  std::string block = {'\x00', '\x38', '\xf0'};
  block += std::string(15, '\x88');
  const std::vector<float> values = Decode(*Named("Q4_0"), block);
  EXPECT_EQ(values[0], -4.0F);
  EXPECT_EQ(values[16], 3.5F);
  EXPECT_EQ(values[1], 0.0F);
  EXPECT_EQ(values[31], 0.0F);
}

TEST(GgufBlocks, ScalesThatAreNotFiniteStayWithinTheirBlock) {
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
                           "Q6_K", "IQ4_NL", "IQ4_XS"}) {
    const GgufBlockType* type = Named(name);
    const auto size = static_cast<size_t>(type->bytes);
    // All ones: every 16-bit scale is a NaN.
    const std::vector<float> values = Decode(
        *type, std::string(size, '\0') + std::string(size, '\xff') + std::string(size, '\0'));
    const auto elements = static_cast<size_t>(type->elements);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(std::isnan(values[i]), i / elements == 1) << name << " " << i;
    }
  }
}

TEST(GgufBlocks, SourcesNeedNotBeAligned) {
  for (uint32_t id = 0; const GgufBlockType* type = FindGgufBlockType(id); ++id) {
    if (type->decode == nullptr) continue;
    std::string bytes;
    for (int64_t i = 0; i < 2 * type->bytes; ++i) bytes += static_cast<char>(i * 37 % 61);
    const std::vector<float> expected = Decode(*type, bytes);
    const std::string shifted = "x" + bytes;
    std::vector<float> values(expected.size());
    type->decode(reinterpret_cast<const std::byte*>(shifted.data()) + 1, 2, values.data());
    EXPECT_EQ(values, expected) << type->name;
  }
}

}  // namespace
}  // namespace linchpin
