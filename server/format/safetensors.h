// The safetensors file format: parses and builds headers.
//
//   bytes 0..7     u64 little-endian: N, the length of the header
//   bytes 8..8+N   JSON: {"name": {"dtype": "BF16", "shape": [..],
//                  "data_offsets": [begin, end]}, ..., "__metadata__": {..}},
//                  optionally padded with trailing spaces
//   then           the data; offsets count from here
//
// Pure functions, no I/O.  A file that passes has: N <= 100,000,000; no
// duplicate key; every dtype known; end - begin == shape x dtype; the data area
// covered from its first to its last byte without hole or overlap.
// Format: https://huggingface.co/docs/safetensors
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tensor/tensor_info.h"

namespace linchpin {

inline constexpr uint64_t kSafetensorsPrefixBytes = 8;
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  TensorInfo info;
  uint64_t begin = 0;  // absolute file offsets, the header included
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> entries;  // by ascending offset
  uint64_t data_begin = 0;                // 8 + N
};

// The header's length from the first bytes of a file (8 or more of them).
// FORMAT_REFUSED for a pickle, zip (a PyTorch or TorchScript archive), GGUF or
// HDF5 under this name; HEADER_INVALID for a length that cannot be.
absl::StatusOr<uint64_t> SafetensorsHeaderLength(std::string_view file,
                                                 absl::Span<const std::byte> prefix,
                                                 uint64_t file_size);

// Parses the JSON (N bytes) of `file`, whose name goes into errors.
// HEADER_INVALID, DTYPE_UNSUPPORTED or TENSOR_RANGE_INVALID name the tensor.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view file,
                                                         std::string_view json, uint64_t file_size);

// The mirror image: bytes 0..8+N for tensors laid out in the given order
// without gaps, N padded with spaces so that data begins at a multiple of 8.
struct SafetensorsLayout {
  std::string header;                     // prefix and JSON
  std::vector<SafetensorsEntry> entries;  // as given, with their offsets
  uint64_t file_size = 0;
};
SafetensorsLayout LayOutSafetensors(const std::vector<TensorInfo>& tensors,
                                    const std::map<std::string, std::string>& metadata);

}  // namespace linchpin
