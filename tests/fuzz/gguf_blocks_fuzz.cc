// The input is the id of a type of GGUF and blocks of it.  A block means the same
// wherever it lies, whatever its bytes.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "format/gguf_blocks.h"
#include "tests/fuzz/invariant.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const linchpin::GgufBlockType* type = linchpin::FindGgufBlockType(data[0]);
  if (type == nullptr || type->decode == nullptr) return 0;
  INVARIANT(type->bytes > 0 && type->elements > 0);
  // From an odd address as well as from an even one.
  const auto* const bytes = reinterpret_cast<const std::byte*>(data) + 1;
  const int64_t blocks = static_cast<int64_t>(size - 1) / type->bytes;
  const auto elements = static_cast<size_t>(type->elements);
  std::vector<float> together(static_cast<size_t>(blocks) * elements);
  type->decode(bytes, blocks, together.data());
  for (int64_t block = 0; block < blocks; ++block) {
    const std::vector<std::byte> copy(bytes + block * type->bytes,
                                      bytes + (block + 1) * type->bytes);
    std::vector<float> alone(elements);
    type->decode(copy.data(), 1, alone.data());
    INVARIANT(std::memcmp(alone.data(), &together[static_cast<size_t>(block) * elements],
                          elements * sizeof(float)) == 0);
  }
  return 0;
}
