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
#include "quantize/packed_tensors.h"
#include "quantize/slab_encoder.h"
#include "tensor/float16.h"
#include "tensor/float8.h"
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
                                          .scale_dtype = weight.info.dtype,
                                          .rows = rows,
                                          .columns = columns,
                                          .group_size = group,
                                          .rule = ScaleRule::kMinMax,
                                          .weights = weight.bytes.data(),
                                          .codes = packed.data(),
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

// The other schemes: what the reference stores, byte for byte but for the codes
// that its division in the weights' own type puts one step off.
struct SchemeCase {
  std::string name;
  Scheme scheme;
  int64_t group_size;  // -1: per channel
  bool asymmetric = false;
  double different = 0;  // part of the codes that may be one step off
  // The reference takes the difference of both ends in the weights' own type: its
  // scales may be a last bit off, and codes with them.
  bool rounded_range = false;
};

class SchemeOracle : public ::testing::TestWithParam<SchemeCase> {};

// Codes as consumers see them, whatever they are packed into.
std::vector<float> CodesOf(const Tensor& codes, int bits) {
  if (codes.info.dtype == DType::kF8E4M3) {
    std::vector<float> values(codes.bytes.size());
    WidenF8E4M3(codes.bytes.data(), static_cast<int64_t>(values.size()), values.data());
    return values;
  }
  std::vector<float> values;
  for (const std::byte byte : codes.bytes) {
    const int value = static_cast<int>(byte);
    if (codes.info.dtype == DType::kI8) {
      values.push_back(static_cast<float>(static_cast<int8_t>(byte)));
    } else if (bits == 8) {
      values.push_back(static_cast<float>(value - 128));
    } else {
      values.push_back(static_cast<float>((value & 15) - 8));
      values.push_back(static_cast<float>((value >> 4) - 8));
    }
  }
  return values;
}

// The distance between neighbouring codes at `code`.
float StepAt(CodeKind kind, float code) {
  if (kind != CodeKind::kFloat8) return 1;
  return std::exp2(std::max(std::floor(std::log2(std::fabs(code) + 1e-30F)), -6.0F) - 3);
}

void ExpectNear(const std::vector<float>& ours, const std::vector<float>& theirs, DType dtype) {
  const float bit = dtype == DType::kBF16 ? 0x1p-7F : 0x1p-10F;
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_NEAR(ours[i], theirs[i], bit * std::fabs(theirs[i])) << i;
  }
}

// Sum of (w - (q - z) s)^2 of 4-bit codes with zero points.
double AffineError(const Tensor& weight, const Tensor& codes, const Tensor& scale,
                   const Tensor& zero_point) {
  const std::vector<float> w = weight.Floats();
  const std::vector<float> q = CodesOf(codes, 4);
  const std::vector<float> s = scale.Floats();
  const std::vector<float> z = CodesOf(zero_point, 4);  // rows 8r .. 8r + 7 of a group in turn
  const auto columns = static_cast<size_t>(weight.info.shape[1]);
  const auto groups = static_cast<size_t>(scale.info.shape[1]);
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const size_t row = i / columns;
    const size_t group = i % columns / (columns / groups);
    const float zero = z[(row / 8 * groups + group) * 8 + row % 8];
    sum += std::pow(w[i] - (q[i] - zero) * s[row * groups + group], 2);
  }
  return sum;
}

TEST_P(SchemeOracle, StoresWhatCompressedTensorsStores) {
  LINCHPIN_NEEDS_SHARED();
  const SchemeCase& c = GetParam();
  const std::filesystem::path folder = SharedPath("oracles/packings/compressed-tensors/" + c.name);
  std::map<std::string, Tensor> input = ReadTensors(folder / "input.safetensors");
  std::map<std::string, Tensor> expected = ReadTensors(folder / "expected.safetensors");
  const Tensor& weight = input.at("weight");

  PlanRow row;
  row.source.info = weight.info;
  row.quantized = true;
  row.scheme = c.scheme;
  row.asymmetric = c.asymmetric;
  row.scale = ScaleRule::kMinMax;
  row.scale_dtype = weight.info.dtype;
  row.group_size = c.group_size < 0 ? weight.info.shape[1] : c.group_size;
  row.outputs = PackedTensors(row);
  const auto encoder = MakeEncoder(QuantizeOptions(), row, nullptr);
  std::vector<std::vector<std::byte>> bytes;
  EXPECT_EQ(encoder->Encode(0, weight.info.shape[0], weight.bytes.data(), bytes).first_non_finite,
            -1);
  std::vector<std::vector<std::byte>> constants = encoder->Constants();
  ASSERT_EQ(row.outputs.size(), expected.size());
  for (size_t i = 0; i < row.outputs.size(); ++i) {
    const TensorInfo& info = row.outputs[i];
    SCOPED_TRACE(info.name);
    const Tensor& theirs = expected.at(info.name);
    EXPECT_EQ(info, theirs.info);
    const Tensor ours{info, constants[i].empty() ? bytes[i] : constants[i]};
    ASSERT_EQ(ours.bytes.size(), theirs.bytes.size());
    if (c.rounded_range) {
      if (i == 1) ExpectNear(ours.Floats(), theirs.Floats(), info.dtype);
      continue;
    }
    if (i > 0) {
      EXPECT_EQ(ours.bytes, theirs.bytes);
      continue;
    }
    const int bits = TraitsOf(c.scheme).bits;
    const std::vector<float> a = CodesOf(ours, bits);
    const std::vector<float> b = CodesOf(theirs, bits);
    int different = 0;
    for (size_t j = 0; j < a.size(); ++j) {
      different += a[j] != b[j] ? 1 : 0;
      EXPECT_LE(std::fabs(a[j] - b[j]), StepAt(TraitsOf(c.scheme).codes, b[j])) << j;
    }
    EXPECT_LE(different, c.different * static_cast<double>(a.size()));
  }
  if (!c.rounded_range) return;
  const auto output = [&](size_t i) { return Tensor{row.outputs[i], bytes[i]}; };
  // Which of two such scales is better is chance.
  EXPECT_LE(AffineError(weight, output(0), output(1), output(2)),
            1.001 * AffineError(weight, expected.at("weight_packed"), expected.at("weight_scale"),
                                expected.at("weight_zero_point")));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SchemeOracle,
    ::testing::Values(SchemeCase{"w4a16-asym-g64-f32", Scheme::kW4A16, 64, true},
                      SchemeCase{"w4a16-asym-g64-f16", Scheme::kW4A16, 64, true, 0, true},
                      SchemeCase{"w4a16-asym-g64-bf16", Scheme::kW4A16, 64, true, 0, true},
                      SchemeCase{"w8a16-sym-channel-bf16", Scheme::kW8A16, -1, false, 0.1},
                      SchemeCase{"w8a16-sym-g128-bf16", Scheme::kW8A16, 128, false, 0.1},
                      SchemeCase{"w8a8-channel-bf16", Scheme::kW8A8, -1, false, 0.1},
                      SchemeCase{"fp8-channel-bf16", Scheme::kFp8, -1, false, 0.1}),
    [](const auto& test) {
      std::string name = test.param.name;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

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
