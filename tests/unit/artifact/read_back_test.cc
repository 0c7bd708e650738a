#include "artifact/read_back.h"

#include <cstring>
#include <map>
#include <string>

#include "base/status.h"
#include "gtest/gtest.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

class ReadBackTest : public ::testing::Test {
 protected:
  void Add(TensorFixture tensor) {
    auto bytes = std::make_shared<std::string>(std::move(tensor.bytes));
    tensors_[tensor.info.name] = {
        tensor.info, [bytes](uint64_t at, absl::Span<std::byte> out) -> absl::Status {
          if (at + out.size() > bytes->size()) {
            return Error(Reason::kSourceChanged, "bytes", "read past the end");
          }
          std::memcpy(out.data(), bytes->data() + at, out.size());
          return absl::OkStatus();
        }};
  }
  // Two rows of 16 columns in groups of 8; codes count up from -8.
  void AddPacked() {
    std::string words(16, '\0');
    for (int i = 0; i < 32; ++i) {
      words[i / 2] = static_cast<char>(words[i / 2] | (i % 16) << (i % 2 * 4));
    }
    Add({{"w_packed", DType::kI32, {2, 2}}, words});
    Add(MakeTensor("w_scale", DType::kBF16, {2, 2}, {0.5F, 1.0F, -2.0F, 0.25F}));
  }
  Reason ReasonAt(int64_t row, int64_t column) const {
    return ReasonOf(ReadBack(tensors_, {"w", row, column}).status());
  }

  std::map<std::string, StoredBytes> tensors_;
};

TEST_F(ReadBackTest, PlainTensors) {
  Add(MakeTensor("w", DType::kF16, {2, 2}, {1, 2, 3, -4.5F}));
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 1}), -4.5F);
  EXPECT_EQ(ReasonAt(2, 0), Reason::kTensorShapeInvalid);
  EXPECT_EQ(ReasonAt(0, -1), Reason::kTensorShapeInvalid);
}

TEST_F(ReadBackTest, PackedTensorsTimesTheirScale) {
  AddPacked();
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 0}), -8 * 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 7}), -1 * 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 15}), 7.0F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 3}), -5 * -2.0F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 9}), 1 * 0.25F);
  EXPECT_EQ(ReasonAt(2, 0), Reason::kTensorShapeInvalid);
  EXPECT_EQ(ReasonAt(0, 16), Reason::kTensorShapeInvalid);
}

// Sixteen rows of one word of eight codes; zero points of two groups, packed by rows.
TEST_F(ReadBackTest, ZeroPointsAreTakenOff) {
  std::string words(16 * 4, '\x99');  // every code is 9 - 8
  Add({{"w_packed", DType::kI32, {16, 1}}, words});
  Add(MakeTensor("w_scale", DType::kBF16, {16, 2}, std::vector<float>(32, 0.5F)));
  // Word (r, c): row 8r lowest. Row 1 of group 0 has 3 - 8, row 8 of group 1 has 15 - 8.
  const uint32_t zeros[4] = {0x88888838, 0x88888888, 0x88888888, 0x8888888f};
  std::string bytes(sizeof zeros, '\0');
  std::memcpy(bytes.data(), zeros, sizeof zeros);
  Add({{"w_zero_point", DType::kI32, {2, 2}}, bytes});
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 0}), 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 0}), (1 + 5) * 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 4}), 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 8, 7}), (1 - 7) * 0.5F);
  Add({{"w_zero_point", DType::kI32, {2, 1}}, bytes.substr(0, 8)});
  EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorShapeInvalid);
  Add({{"w_zero_point", DType::kI32, {1, 2}}, bytes.substr(0, 8)});
  EXPECT_EQ(ReasonAt(8, 0), Reason::kTensorShapeInvalid);
}

TEST_F(ReadBackTest, TheShapeSaysHowManyBitsACodeHas) {
  Add({{"w_packed", DType::kI32, {1, 2}}, std::string("\x00\x80\x81\xff\x01\x02\x03\x04", 8)});
  Add(MakeTensor("w_scale", DType::kBF16, {1, 1}, {2.0F}));
  const int64_t shape[2] = {1, 8};
  std::string bytes(sizeof shape, '\0');
  std::memcpy(bytes.data(), shape, sizeof shape);
  Add({{"w_shape", DType::kI64, {2}}, bytes});
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 0}), -256.0F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 1}), 0.0F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 3}), 254.0F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 4}), -254.0F);
  const int64_t wrong[2] = {1, 9};
  std::memcpy(bytes.data(), wrong, sizeof wrong);
  Add({{"w_shape", DType::kI64, {2}}, bytes});
  EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorShapeInvalid);
}

TEST_F(ReadBackTest, OneCodeToAByte) {
  Add(MakeTensor("w_scale", DType::kBF16, {2, 1}, {0.5F, -0.25F}));
  Add({{"w", DType::kI8, {2, 2}}, std::string("\x01\x80\x7f\xff", 4)});
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 0}), 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 1}), -64.0F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 1}), 0.25F);
  EXPECT_EQ(ReasonAt(0, 2), Reason::kTensorShapeInvalid);
  Add({{"w", DType::kF8E4M3, {2, 2}}, std::string("\x38\xb8\x7e\x01", 4)});
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 0}), 0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 0, 1}), -0.5F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 0}), 448 * -0.25F);
  EXPECT_EQ(*ReadBack(tensors_, {"w", 1, 1}), 0x1p-9F * -0.25F);
}

TEST_F(ReadBackTest, ScalesThatDoNotFitAreRefused) {
  AddPacked();
  const TensorFixture bad[] = {MakeTensor("w_scale", DType::kBF16, {2, 3}, {1, 1, 1, 1, 1, 1}),
                               MakeTensor("w_scale", DType::kBF16, {1, 2}, {1, 1}),
                               MakeTensor("w_scale", DType::kBF16, {2}, {1, 1}),
                               MakeTensor("w_scale", DType::kBF16, {2, 0}, {}),
                               MakeCountingTensor("w_scale", DType::kI32, {2, 2})};
  for (const TensorFixture& scale : bad) {
    Add(scale);
    EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorShapeInvalid) << ShapeText(scale.info.shape);
  }
}

TEST_F(ReadBackTest, PackedShapesThatCannotBeAreRefused) {
  AddPacked();
  Add({{"w_packed", DType::kI32, {0, int64_t{1} << 62}}, ""});
  EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorShapeInvalid);
  Add({{"w_packed", DType::kI64, {2, 2}}, std::string(32, '\0')});
  EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorShapeInvalid);
}

TEST_F(ReadBackTest, MissingTensors) {
  EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorMissing);
  Add({{"w_packed", DType::kI32, {1, 1}}, std::string(4, '\0')});
  EXPECT_EQ(ReasonAt(0, 0), Reason::kTensorMissing);
}

}  // namespace
}  // namespace linchpin
