// A tensor of a checkpoint: what it is to its readers, and where it lies.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "format/gguf_blocks.h"
#include "tensor/tensor_info.h"

namespace linchpin {

// How a tensor lies in a GGUF file, where that is not as readers see it.
struct RowEncoding {
  const GgufBlockType* type = nullptr;  // of the stored elements
  // Above 0: the rows of each of so many heads are stored pair by pair, row p of
  // the first half before row p of the second.
  int64_t heads = 0;
  float added = 0;  // to every value, in the file
};

// Codes that stand several to a little-endian 32-bit word, the first in its lowest
// bits, each with 2^(bits - 1) added (compressed-tensors' pack-quantized).
struct PackedCodes {
  int bits = 4;  // 4 or 8
  // Index of the zero points in Checkpoint::tensors(): packed alike, but along the
  // rows, [rows / codes per word, groups].
  std::optional<size_t> zero_points = std::nullopt;
  bool rounded = false;  // to the scales' dtype
};

struct StoredTensor {
  // Of an encoded or packed tensor the dtype is F32: what its rows are read as.
  TensorInfo info;
  int shard = 0;                                       // index into Checkpoint::shards()
  uint64_t begin = 0;                                  // absolute offset in that file
  std::optional<RowEncoding> encoding = std::nullopt;  // none: the bytes are as `info` says
  // Of a weight that is stored as codes: index of its scales in Checkpoint::tensors().
  std::optional<size_t> scales = std::nullopt;
  // Of one with scales; none: a code to each element, of the dtype in `info`.
  std::optional<PackedCodes> packed = std::nullopt;
};

// Bytes that the tensor takes in its file.
uint64_t StoredSize(const StoredTensor& tensor);

// Fills `out` from `offset` of the tensor's bytes.
using ReadStored = std::function<absl::Status(uint64_t offset, absl::Span<std::byte> out)>;

// Rows [first, first + count) of `columns` elements each of an encoded tensor
// (the elements of a vector as one row), decoded into `out`, which holds them.
absl::Status ReadEncodedRows(const StoredTensor& tensor, int64_t first, int64_t count,
                             const ReadStored& read, absl::Span<float> out);

}  // namespace linchpin
