#include "tensor/dtype.h"

#include <array>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

struct Expected {
  DType dtype;
  std::string_view name;
  int64_t size;
  bool float_weight;
};

constexpr std::array<Expected, 15> kExpected = {{
    {DType::kBool, "BOOL", 1, false},
    {DType::kU8, "U8", 1, false},
    {DType::kI8, "I8", 1, false},
    {DType::kF8E4M3, "F8_E4M3", 1, false},
    {DType::kF8E5M2, "F8_E5M2", 1, false},
    {DType::kI16, "I16", 2, false},
    {DType::kU16, "U16", 2, false},
    {DType::kF16, "F16", 2, true},
    {DType::kBF16, "BF16", 2, true},
    {DType::kI32, "I32", 4, false},
    {DType::kU32, "U32", 4, false},
    {DType::kF32, "F32", 4, true},
    {DType::kI64, "I64", 8, false},
    {DType::kU64, "U64", 8, false},
    {DType::kF64, "F64", 8, false},
}};

TEST(DType, HasTheNamesAndSizesOfSafetensors) {
  for (const Expected& expected : kExpected) {
    EXPECT_EQ(NameOf(expected.dtype), expected.name);
    EXPECT_EQ(SizeOf(expected.dtype), expected.size) << expected.name;
    EXPECT_EQ(ParseDType(expected.name), expected.dtype) << expected.name;
    EXPECT_EQ(IsFloatWeight(expected.dtype), expected.float_weight) << expected.name;
  }
}

TEST(DType, KnowsNoOtherNames) {
  for (const char* name : {"", "bf16", "F32 ", "F128", "float32", "BF16\n"}) {
    EXPECT_FALSE(ParseDType(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace linchpin
