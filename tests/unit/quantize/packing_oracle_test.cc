// What compressed-tensors itself writes for the same weights.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "format/json.h"
#include "format/safetensors.h"
#include "gtest/gtest.h"
#include "quantize/group_encoder.h"
#include "tensor/float16.h"
#include "tests/support/shared.h"

namespace linchpin {
namespace {

struct Tensor {
  TensorInfo info;
  std::vector<std::byte> bytes;

  std::vector<float> Floats() const {
    std::vector<float> values(bytes.size() / SizeOf(info.dtype));
    WidenToFloat(info.dtype, bytes.data(), static_cast<int64_t>(values.size()), values.data());
    return values;
  }
};

std::map<std::string, Tensor> ReadTensors(const std::filesystem::path& path) {
  const std::string text = ReadFileText(path);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  const uint64_t length = *SafetensorsHeaderLength("oracle", {bytes, 8}, text.size());
  const SafetensorsHeader header =
      *ParseSafetensorsHeader("oracle", std::string_view(text).substr(8, length), text.size());
  std::map<std::string, Tensor> tensors;
  for (const SafetensorsEntry& entry : header.entries) {
    tensors[entry.info.name] = {entry.info, {bytes + entry.begin, bytes + entry.end}};
  }
  return tensors;
}

int CodeAt(const std::vector<std::byte>& packed, size_t index) {
  const int byte = static_cast<int>(packed[index / 2]);
  return (index % 2 == 0 ? byte & 15 : byte >> 4) - 8;
}

double SquaredError(const std::vector<float>& weights, const std::vector<std::byte>& packed,
                    const std::vector<float>& scales) {
  double sum = 0;
  const size_t group = weights.size() / scales.size();
  for (size_t i = 0; i < weights.size(); ++i) {
    const double error = weights[i] - static_cast<double>(CodeAt(packed, i)) * scales[i / group];
    sum += error * error;
  }
  return sum;
}

class PackingOracle : public ::testing::TestWithParam<std::string> {};

TEST_P(PackingOracle, ScalesAreIdenticalAndCodesAtLeastAsGood) {
  LINCHPIN_NEEDS_SHARED();
  const std::filesystem::path folder =
      SharedPath("oracles/packings/compressed-tensors/" + GetParam());
  std::map<std::string, Tensor> input = ReadTensors(folder / "input.safetensors");
  std::map<std::string, Tensor> expected = ReadTensors(folder / "expected.safetensors");
  const Json config = *ParseJson("config_group.json", ReadFileText(folder / "config_group.json"),
                                 Reason::kConfigInvalid);
  const Tensor& weight = input.at("weight");
  const Tensor& expected_packed = expected.at("weight_packed");
  const Tensor& expected_scale = expected.at("weight_scale");
  const int64_t rows = weight.info.shape[0];
  const int64_t columns = weight.info.shape[1];
  const Json& group_size = config["weights"]["group_size"];
  const int64_t group = group_size.is_null() ? columns : group_size.get<int64_t>();

  // Layout, shapes and dtypes are those of the plan.
  EXPECT_EQ(expected_packed.info.dtype, DType::kI32);
  EXPECT_EQ(expected_packed.info.shape, (std::vector<int64_t>{rows, columns / 8}));
  EXPECT_EQ(expected_scale.info.dtype, weight.info.dtype);
  EXPECT_EQ(expected_scale.info.shape, (std::vector<int64_t>{rows, columns / group}));

  std::vector<std::byte> packed(expected_packed.bytes.size());
  std::vector<std::byte> scales(expected_scale.bytes.size());
  const EncodeError error = EncodeGroups({.dtype = weight.info.dtype,
                                          .rows = rows,
                                          .columns = columns,
                                          .group_size = group,
                                          .rule = ScaleRule::kMinMax,
                                          .weights = weight.bytes.data(),
                                          .packed = packed.data(),
                                          .scales = scales.data()});
  EXPECT_EQ(scales, expected_scale.bytes);

  const std::vector<float> weights = weight.Floats();
  const std::vector<float> scale_values = expected_scale.Floats();
  int different = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const int reference = CodeAt(expected_packed.bytes, i);
    EXPECT_LE(std::abs(CodeAt(packed, i) - reference), 1) << i;
    different += CodeAt(packed, i) != reference ? 1 : 0;
    // The reference divides in the weights' own type; that is all the difference.
    const float quotient = RoundTo(weight.info.dtype, weights[i] / scale_values[i / group]);
    EXPECT_EQ(std::nearbyint(std::clamp(quotient, -8.0F, 7.0F)), reference) << i;
  }
  // About 1 %; an independent float32 division counts 187 of 16384 in the worst case.
  const double allowed = weight.info.dtype == DType::kF32 ? 0 : 0.012;
  EXPECT_LE(different, allowed * static_cast<double>(weights.size()));
  const double ours = SquaredError(weights, packed, scale_values);
  EXPECT_LE(ours, SquaredError(weights, expected_packed.bytes, scale_values));
  EXPECT_NEAR(error.sum_squares, ours, 1e-4 * ours);

  // What a consumer reads: the same numbers wherever the codes agree.
  const std::vector<float> dequantized =
      ReadTensors(folder / "dequantized.safetensors").begin()->second.Floats();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (CodeAt(packed, i) != CodeAt(expected_packed.bytes, i)) continue;
    const float scale = scale_values[i / group];
    EXPECT_EQ(RoundTo(weight.info.dtype, static_cast<float>(CodeAt(packed, i)) * scale),
              dequantized[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, PackingOracle,
                         ::testing::Values("w4a16-sym-channel-bf16", "w4a16-sym-g128-bf16",
                                           "w4a16-sym-g128-f16", "w4a16-sym-g128-f32",
                                           "w4a16-sym-g32-bf16"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace linchpin
