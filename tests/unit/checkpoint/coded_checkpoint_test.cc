// Weights that are stored as codes, shown as what they stand for.
#include <cstring>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tensor/float16.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kConfig[] = R"({"model_type": "llama", "quantization_config": {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"]}}}})";

template <typename T>
TensorFixture Whole(const std::string& name, DType dtype, std::vector<int64_t> shape,
                    const std::vector<T>& values) {
  TensorFixture tensor = MakeCountingTensor(name, dtype, std::move(shape));
  EXPECT_EQ(tensor.bytes.size(), values.size() * sizeof(T));
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

class CodedCheckpointTest : public ::testing::Test {
 protected:
  void Put(const std::vector<TensorFixture>& tensors, std::string_view config = kConfig) {
    storage_.Put("m/config.json", ToBytes(config));
    storage_.Put("m/model.safetensors", ToBytes(SafetensorsFile(tensors)));
  }
  std::vector<float> Rows(const std::string& name, int64_t first, int64_t count) {
    auto checkpoint = Checkpoint::Open(storage_, "m");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_TRUE(checkpoint->Unpack().ok());
    const auto tensor = checkpoint->Find(name);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    const auto rows = checkpoint->ReadRows(**tensor, first, count);
    EXPECT_TRUE(rows.ok()) << rows.status();
    return rows.ok() ? rows->data : std::vector<float>();
  }
  absl::Status Unpacked() {
    auto checkpoint = Checkpoint::Open(storage_, "m");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return checkpoint->Unpack().status();
  }
  MemoryStorage storage_;
};

// Two rows of 8 codes in two groups: -8 .. -1 and 7 .. 0.
std::vector<TensorFixture> FourBits() {
  return {Whole<uint32_t>("w_packed", DType::kI32, {2, 1}, {0x76543210U, 0x89abcdefU}),
          MakeTensor("w_scale", DType::kBF16, {2, 2}, {1, 2, -1, 0.5F}),
          Whole<int64_t>("w_shape", DType::kI64, {2}, {2, 8})};
}

TEST_F(CodedCheckpointTest, FourBitCodesAreMultipliedByTheirGroupsScale) {
  Put(FourBits());
  EXPECT_THAT(Rows("w", 0, 2), ElementsAre(-8, -7, -6, -5, -8, -6, -4, -2,  //
                                           -7, -6, -5, -4, 1.5, 1, 0.5, 0));
  EXPECT_THAT(Rows("w", 1, 1), ElementsAre(-7, -6, -5, -4, 1.5, 1, 0.5, 0));
}

TEST_F(CodedCheckpointTest, EightBitCodesArePackedByFours) {
  Put({Whole<uint32_t>("w_packed", DType::kI32, {1, 2}, {0xff818000U, 0x80808081U}),
       MakeTensor("w_scale", DType::kF32, {1, 1}, {0.5F}),
       Whole<int64_t>("w_shape", DType::kI64, {2}, {1, 8})});
  EXPECT_THAT(Rows("w", 0, 1), ElementsAre(-64, 0, 0.5, 63.5, 0.5, 0, 0, 0));
}

// Consumers unpack zero points while they load, in the scales' dtype.
TEST_F(CodedCheckpointTest, ZeroPointsAreSubtractedAndTheProductRounded) {
  std::vector<TensorFixture> tensors = FourBits();
  // Row 0: zeros of -8 + 9 = 1 and -8 + 5 = -3; row 1: 0 and 7.
  tensors.push_back(Whole<uint32_t>("w_zero_point", DType::kI32, {1, 2}, {0x89U, 0xf5U}));
  tensors[1] = MakeTensor("w_scale", DType::kBF16, {2, 2}, {1.0078125F, 2, -1, 0.5F});
  Put(tensors);
  const float step = 1.0078125F;  // 129 / 128: eight bits of fraction
  EXPECT_THAT(Rows("w", 0, 1), ElementsAre(RoundTo(DType::kBF16, -9 * step), -8 * step,
                                           RoundTo(DType::kBF16, -7 * step),
                                           RoundTo(DType::kBF16, -6 * step), -2, 0, 2, 4));
  EXPECT_NE(RoundTo(DType::kBF16, -9 * step), -9 * step);
  EXPECT_THAT(Rows("w", 1, 1), ElementsAre(-7, -6, -5, -4, -2, -2.5, -3, -3.5));
}

TEST_F(CodedCheckpointTest, SignedBytesHaveOneScalePerRow) {
  Put({Whole<int8_t>("w", DType::kI8, {2, 2}, {-128, 127, 3, -4}),
       MakeTensor("w_scale", DType::kBF16, {2, 1}, {0.5F, 2})});
  EXPECT_THAT(Rows("w", 0, 2), ElementsAre(-64, 63.5, 6, -8));
}

TEST_F(CodedCheckpointTest, TheConfigIsThatOfTheDenseModel) {
  Put(FourBits());
  auto checkpoint = Checkpoint::Open(storage_, "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_FALSE(checkpoint->Has("w"));
  const auto compression = checkpoint->Unpack();
  ASSERT_TRUE(compression.ok()) << compression.status();
  EXPECT_TRUE(compression->compressed());
  EXPECT_THAT(checkpoint->config_text(), ::testing::Not(HasSubstr("quantization_config")));
  EXPECT_TRUE(checkpoint->Has("w"));
  EXPECT_FALSE(checkpoint->Has("w_packed"));
}

TEST_F(CodedCheckpointTest, AModelThatIsNotCompressedStaysAsItIs) {
  Put(FourBits(), R"({"model_type": "llama"})");
  auto checkpoint = Checkpoint::Open(storage_, "m");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_TRUE(checkpoint->Unpack().ok());
  EXPECT_TRUE(checkpoint->Has("w_packed"));
}

TEST_F(CodedCheckpointTest, PartsThatDoNotFitAreNamed) {
  const auto expect = [this](size_t part, const TensorFixture& other) {
    std::vector<TensorFixture> tensors = FourBits();
    tensors.push_back(Whole<uint32_t>("w_zero_point", DType::kI32, {1, 2}, {0, 0}));
    tensors[part] = other;
    Put(tensors);
    const absl::Status status = Unpacked();
    EXPECT_EQ(ReasonOf(status), Reason::kTensorShapeInvalid) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors")) << other.info.name;
  };
  expect(0, Whole<uint32_t>("w_packed", DType::kI32, {2}, {0, 0}));
  expect(0, Whole<uint32_t>("w_packed", DType::kI32, {3, 1}, {0, 0, 0}));
  expect(1, MakeTensor("w_scale", DType::kBF16, {2, 3}, {1, 1, 1, 1, 1, 1}));
  expect(1, MakeTensor("w_scale", DType::kBF16, {2}, {1, 1}));
  expect(1, Whole<int32_t>("w_scale", DType::kI32, {2, 2}, {1, 1, 1, 1}));
  expect(2, Whole<int64_t>("w_shape", DType::kI64, {2}, {2, 9}));
  expect(2, Whole<int64_t>("w_shape", DType::kI64, {2}, {2, -8}));
  expect(2, Whole<int64_t>("w_shape", DType::kI64, {1}, {2}));
  expect(3, Whole<uint32_t>("w_zero_point", DType::kI32, {2, 2}, {0, 0, 0, 0}));
  for (size_t missing : {1U, 2U}) {
    std::vector<TensorFixture> tensors = FourBits();
    tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(missing));
    Put(tensors);
    EXPECT_EQ(ReasonOf(Unpacked()), Reason::kTensorMissing);
  }
}

TEST_F(CodedCheckpointTest, ColumnsInAnotherOrderAreRefused) {
  std::vector<TensorFixture> tensors = FourBits();
  tensors.push_back(Whole<int32_t>("w_g_idx", DType::kI32, {2}, {1, 0}));
  Put(tensors);
  EXPECT_EQ(ReasonOf(Unpacked()), Reason::kFeatureUnsupported);
}

}  // namespace
}  // namespace linchpin
