// A GGUF file as the pattern of another one: its metadata, and which of its
// tensors hold which of the Hugging Face model's.
//
// What is written as GGUF follows such a file, be it the source itself or one of
// the same model that lends its metadata and its tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/stored_tensor.h"
#include "format/gguf.h"

namespace linchpin {

// A tensor of the file.
struct GgufSlot {
  GgufTensor tensor;  // its name, type, shape and place
  int shard = 0;      // index into Checkpoint::shards()
  // What it holds, one after the other, as the checkpoint shows them: the experts
  // of a layer, else one.  None for what belongs to the config (rotary factors).
  std::vector<StoredTensor> parts;
};

// Thread-safe.
class GgufTemplate {
 public:
  // `gguf` is a GGUF checkpoint.  Reads headers only.  The errors of ReadGgufFile.
  static absl::StatusOr<GgufTemplate> Open(const Checkpoint& gguf);

  // All pairs of the (first) file.  Views that live as long as this does.
  absl::Span<const GgufKeyValue> pairs() const { return files_.front().header.pairs; }
  // By file and ascending offset.
  const std::vector<GgufSlot>& slots() const { return slots_; }
  // Bytes [offset, offset + out.size()) of a slot, as they lie.
  absl::Status ReadBytes(const GgufSlot& slot, uint64_t offset, absl::Span<std::byte> out) const;

 private:
  std::vector<GgufFile> files_;
  std::vector<std::unique_ptr<ReadableFile>> readers_;
  std::vector<GgufSlot> slots_;
};

// Rows [first, first + count) of `tensor` (a vector as one row) as a GGUF file
// with `encoding` keeps them: its rows paired for the rotation where it has
// heads, its constant added.  `out` holds exactly these rows.
absl::Status ReadRowsForGguf(const Checkpoint& checkpoint, const StoredTensor& tensor,
                             const RowEncoding& encoding, int64_t first, int64_t count,
                             absl::Span<float> out);

}  // namespace linchpin
