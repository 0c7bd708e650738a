// Makes GGUF files, good and bad.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace linchpin {

// The pieces of a header, as the format writes them.
std::string GgufU32(uint32_t value);
std::string GgufU64(uint64_t value);
std::string GgufF32(float value);
std::string GgufString(std::string_view text);

// A key with its value.
std::string GgufPair(std::string_view key, uint32_t value);
std::string GgufPair(std::string_view key, float value);
std::string GgufPair(std::string_view key, bool value);
std::string GgufPair(std::string_view key, const char* value);
// An array of strings.
std::string GgufPair(std::string_view key, const std::vector<std::string>& values);
// An array of a type of a fixed size: all its bytes.
std::string GgufArrayPair(std::string_view key, uint32_t type, uint64_t count,
                          std::string_view bytes);
// Any other value: its type and its bytes.
std::string GgufRawPair(std::string_view key, uint32_t type, std::string_view bytes);

// A tensor's entry; `dimensions` as the format has them, the row's length first.
std::string GgufTensorEntry(std::string_view name, const std::vector<uint64_t>& dimensions,
                            uint32_t type, uint64_t offset);

// A tensor with its data.
struct GgufFixture {
  std::string name;
  std::vector<int64_t> shape;  // row-major
  uint32_t type = 0;
  std::string bytes;
};
// A tensor of `values` as F32.
GgufFixture MakeGgufTensor(std::string name, std::vector<int64_t> shape,
                           const std::vector<float>& values);

// A llama-like model of one layer and 2 heads of 4 channels: hidden 8, MLP 32,
// vocabulary 5, one key-value head.  A value is its index within its tensor plus
// a thousand times the index of the tensor.
std::vector<std::string> TinyGgufPairs(std::string_view architecture = "llama");
std::vector<GgufFixture> TinyGgufTensors();

// A well-formed file.
std::string GgufFile(const std::vector<std::string>& pairs, const std::vector<GgufFixture>& tensors,
                     uint64_t alignment = 32);
// Whatever is given, the data at the next multiple of 32.
std::string RawGguf(const std::vector<std::string>& pairs, const std::vector<std::string>& entries,
                    std::string_view data, uint32_t version = 3);

}  // namespace linchpin
