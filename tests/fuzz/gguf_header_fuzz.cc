// The input is a whole GGUF file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>
#include <variant>
#include <vector>

#include "format/gguf.h"
#include "tests/fuzz/invariant.h"

namespace {

using linchpin::GgufArray;
using linchpin::GgufHeader;
using linchpin::GgufTensor;

// Tensors lie within the file, none over another, in whole blocks.
void CheckTensors(const GgufHeader& header, uint64_t file_size) {
  uint64_t covered = 0;
  std::set<std::string_view> names;
  for (const GgufTensor& tensor : header.tensors) {
    INVARIANT(tensor.begin >= covered && tensor.begin <= tensor.end && tensor.end <= file_size);
    INVARIANT((tensor.end - tensor.begin) % static_cast<uint64_t>(tensor.type->bytes) == 0);
    INVARIANT(tensor.type->readable());
    INVARIANT(names.insert(tensor.name).second);
    covered = tensor.end;
  }
}

// An array gives all its values or none.
void CheckArrays(const GgufHeader& header) {
  for (const auto& [key, value] : header.metadata) {
    const auto* array = std::get_if<GgufArray>(&value);
    if (array == nullptr) continue;
    const auto whole = [array](const auto& values) {
      return !values || values->size() == array->count;
    };
    INVARIANT(whole(array->Strings()) && whole(array->Integers()));
    INVARIANT(whole(array->Numbers()) && whole(array->Flags()));
  }
}

// All values of a quantized tensor can be read.
void Decode(const GgufTensor& tensor, const uint8_t* data) {
  if (tensor.type->decode == nullptr) return;
  const auto blocks = static_cast<int64_t>(tensor.end - tensor.begin) / tensor.type->bytes;
  std::vector<float> values(static_cast<size_t>(blocks * tensor.type->elements));
  tensor.type->decode(reinterpret_cast<const std::byte*>(data) + tensor.begin, blocks,
                      values.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto header = linchpin::ParseGgufHeader("fuzz", file, size);
  // The first half of it, too: never an error where the whole is good.
  const auto half = linchpin::ParseGgufHeader("fuzz", file.substr(0, size / 2), size);
  if (!header.ok()) return 0;
  INVARIANT(header->has_value());
  INVARIANT(half.ok());
  CheckTensors(**header, size);
  CheckArrays(**header);
  for (const GgufTensor& tensor : (*header)->tensors) Decode(tensor, data);
  return 0;
}
