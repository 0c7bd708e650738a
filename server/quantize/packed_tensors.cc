#include "quantize/packed_tensors.h"

#include <cstring>

#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr int64_t kWordBits = 32;

int64_t CodesPerWord(const SchemeTraits& scheme) { return kWordBits / scheme.bits; }

}  // namespace

std::vector<TensorInfo> PackedTensors(const PlanRow& row) {
  const SchemeTraits& scheme = TraitsOf(row.scheme);
  const std::string& name = row.source.info.name;
  const int64_t n = row.source.info.shape[0];
  const int64_t k = row.source.info.shape[1];
  const int64_t groups = k / row.group_size;
  const TensorInfo scales{name + "_scale", row.scale_dtype, {n, groups}};
  if (scheme.codes != CodeKind::kPackedInt) {
    const DType dtype = scheme.codes == CodeKind::kInt8 ? DType::kI8 : DType::kF8E4M3;
    return {{name, dtype, {n, k}}, scales};
  }
  const int64_t per_word = CodesPerWord(scheme);
  std::vector<TensorInfo> outputs = {{name + "_packed", DType::kI32, {n, k / per_word}}, scales};
  if (row.asymmetric) {
    outputs.push_back({name + "_zero_point", DType::kI32, {n / per_word, groups}});
  }
  outputs.push_back({name + "_shape", DType::kI64, {2}});
  return outputs;
}

std::vector<std::byte> PackZeroPoints(absl::Span<const int8_t> zeros, int64_t groups, int bits) {
  const int64_t per_word = kWordBits / bits;
  const int64_t rows = static_cast<int64_t>(zeros.size()) / groups;
  std::vector<uint32_t> words(static_cast<size_t>(rows / per_word * groups));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int code = zeros[static_cast<size_t>(row * groups + group)] + (1 << (bits - 1));
      words[static_cast<size_t>(row / per_word * groups + group)] |= static_cast<uint32_t>(code)
                                                                     << (row % per_word * bits);
    }
  }
  std::vector<std::byte> bytes(words.size() * sizeof(uint32_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

std::string PackingObstacle(const SchemeTraits& scheme, bool asymmetric,
                            const std::vector<int64_t>& shape) {
  if (shape[0] == 0 || shape[1] == 0) return "no elements";
  if (shape[1] % scheme.run != 0) {
    return fmt::format("row length not a multiple of {}", scheme.run);
  }
  if (asymmetric && shape[0] % CodesPerWord(scheme) != 0) return "rows not a multiple of 8";
  return "";
}

}  // namespace linchpin
