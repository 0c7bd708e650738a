// The GGUF file format, versions 2 and 3, little-endian: parses headers.
//
//   bytes 0..3   "GGUF"
//   u32          the version
//   u64 u64      how many tensors, how many pairs
//   pairs        key, u32 type, value; a string is u64 length and its bytes, an
//                array u32 type, u64 count and its values
//   tensors      name, u32 n, u64 x n dimensions, the row's length first, u32
//                element type, u64 offset
//   then         padding to a multiple of general.alignment (32), and the data;
//                offsets count from here and are such multiples, too
//
// Pure functions, no I/O.  A file that passes has: a header of at most
// 100,000,000 bytes; no duplicate key or name; every tensor readable, in whole
// blocks, within the file, and none over another.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "format/gguf_blocks.h"
#include "format/gguf_value.h"

namespace linchpin {

inline constexpr uint64_t kMaxGgufHeaderBytes = 100'000'000;

struct GgufTensor {
  std::string name;
  const GgufBlockType* type = nullptr;  // readable; rows are whole blocks
  std::vector<int64_t> shape;           // row-major: the row's length comes last
  uint64_t begin = 0;                   // absolute file offsets
  uint64_t end = 0;
};

// A key and, as they lie in the file, the type and the bytes of its value.
struct GgufKeyValue {
  std::string_view key;
  std::string_view value;
};

// Texts and arrays are views of the bytes that were parsed.
struct GgufHeader {
  std::map<std::string_view, GgufValue> metadata;
  std::vector<GgufKeyValue> pairs;  // the same, in the file's order, to be carried over
  std::vector<GgufTensor> tensors;  // by ascending offset
};

// Parses the header of `file` (a name for errors) from its first bytes; nullopt
// where they are too few, so that the reader may come back with more, up to
// min(file_size, kMaxGgufHeaderBytes).  FORMAT_REFUSED for another format, a
// big-endian file or another version; HEADER_INVALID naming the key,
// TENSOR_RANGE_INVALID, TENSOR_SHAPE_INVALID or DTYPE_UNSUPPORTED the tensor.
absl::StatusOr<std::optional<GgufHeader>> ParseGgufHeader(std::string_view file,
                                                          std::string_view prefix,
                                                          uint64_t file_size);

}  // namespace linchpin
