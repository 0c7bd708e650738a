// Encodes float32 values in an element type of GGUF:
//   encode_blocks TYPE COLUMNS VALUES BLOCKS [IMPORTANCE]
// VALUES is a file of rows of COLUMNS float32, BLOCKS becomes the rows' blocks,
// IMPORTANCE is a file of COLUMNS float32.  Standard output is the RMS error.
// For tests that compare them with another implementation's.
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "quantize/block_encoder.h"

namespace linchpin {
namespace {

std::vector<float> ReadFloats(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> values(text.size() / sizeof(float));
  std::copy_n(text.data(), values.size() * sizeof(float), reinterpret_cast<char*>(values.data()));
  return values;
}

const GgufBlockType* Named(std::string_view name) {
  for (uint32_t id = 0; const GgufBlockType* type = FindGgufBlockType(id); ++id) {
    if (type->name == name) return type;
  }
  return nullptr;
}

int Encode(int argc, char** argv) {
  const GgufBlockType* type = argc < 5 ? nullptr : Named(argv[1]);
  if (type == nullptr || !CanEncode(*type)) {
    std::cerr << "usage: encode_blocks TYPE COLUMNS VALUES BLOCKS [IMPORTANCE]\n";
    return 2;
  }
  const int64_t columns = std::stoll(argv[2]);
  const std::vector<float> values = ReadFloats(argv[3]);
  const std::vector<float> importance = argc > 5 ? ReadFloats(argv[5]) : std::vector<float>();
  const auto count = static_cast<int64_t>(values.size());
  std::vector<std::byte> blocks(static_cast<size_t>(count / type->elements * type->bytes));
  const EncodeError error =
      EncodeBlocks({.type = type,
                    .dtype = DType::kF32,
                    .rows = count / columns,
                    .columns = columns,
                    .importance = NormalizedImportance(importance),
                    .weights = reinterpret_cast<const std::byte*>(values.data()),
                    .blocks = blocks.data()});
  if (error.first_non_finite >= 0) return 1;
  std::ofstream(argv[4], std::ios::binary)
      .write(reinterpret_cast<const char*>(blocks.data()),
             static_cast<std::streamsize>(blocks.size()));
  std::cout << std::sqrt(error.sum_squares / static_cast<double>(count)) << "\n";
  return 0;
}

}  // namespace
}  // namespace linchpin

int main(int argc, char** argv) { return linchpin::Encode(argc, argv); }
