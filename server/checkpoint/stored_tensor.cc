#include "checkpoint/stored_tensor.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tensor/float16.h"

namespace linchpin {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 18;  // stays in a thread's cache until decoded

// Elements [first, first + out.size()), counted through the stored rows; both
// are multiples of a block.
absl::Status DecodeElements(const GgufBlockType& type, int64_t first, const ReadStored& read,
                            absl::Span<float> out) {
  thread_local std::vector<std::byte> chunk(kChunkBytes);
  const int64_t step = kChunkBytes / type.bytes;
  const int64_t begin = first / type.elements;
  const int64_t blocks = static_cast<int64_t>(out.size()) / type.elements;
  for (int64_t done = 0; done < blocks; done += step) {
    const int64_t next = std::min(step, blocks - done);
    const auto bytes = absl::MakeSpan(chunk.data(), static_cast<size_t>(next * type.bytes));
    RETURN_IF_ERROR(read(static_cast<uint64_t>((begin + done) * type.bytes), bytes));
    float* const target = out.data() + done * type.elements;
    if (type.dtype) {
      WidenToFloat(*type.dtype, bytes.data(), next, target);
    } else {
      type.decode(bytes.data(), next, target);
    }
  }
  return absl::OkStatus();
}

// Where row `row` is stored among rows of which each head has `rows_per_head`.
int64_t StoredRow(int64_t row, int64_t rows_per_head) {
  const int64_t within = row % rows_per_head;
  const int64_t half = rows_per_head / 2;
  return row - within + 2 * (within % half) + within / half;
}

}  // namespace

uint64_t StoredSize(const StoredTensor& tensor) {
  if (tensor.packed) {
    const int64_t codes = ElementCount(tensor.info.shape).value_or(0);
    return static_cast<uint64_t>(codes * tensor.packed->bits / 8);
  }
  if (!tensor.encoding) return static_cast<uint64_t>(ByteSize(tensor.info).value_or(0));
  const GgufBlockType& type = *tensor.encoding->type;
  const int64_t elements = ElementCount(tensor.info.shape).value_or(0);
  return static_cast<uint64_t>(elements / type.elements * type.bytes);
}

absl::Status ReadEncodedRows(const StoredTensor& tensor, int64_t first, int64_t count,
                             const ReadStored& read, absl::Span<float> out) {
  if (out.empty()) return absl::OkStatus();
  const RowEncoding& encoding = *tensor.encoding;
  int64_t columns = static_cast<int64_t>(out.size()) / count;
  if (encoding.heads == 0) {
    RETURN_IF_ERROR(DecodeElements(*encoding.type, first * columns, read, out));
  } else {
    // The bias of a rotated projection: each element belongs to a row.
    if (tensor.info.shape.size() == 1) count = std::exchange(columns, 1);
    const int64_t rows_per_head = tensor.info.shape[0] / encoding.heads;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = StoredRow(first + i, rows_per_head);
      const auto target =
          out.subspan(static_cast<size_t>(i * columns), static_cast<size_t>(columns));
      RETURN_IF_ERROR(DecodeElements(*encoding.type, row * columns, read, target));
    }
  }
  if (encoding.added != 0) {
    for (float& value : out) value -= encoding.added;
  }
  return absl::OkStatus();
}

}  // namespace linchpin
