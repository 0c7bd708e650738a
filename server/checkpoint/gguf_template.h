// A GGUF file as the pattern of another one: its metadata, and which of its
// tensors hold which of the Hugging Face model's.
//
// What is written as GGUF follows such a file, be it the source itself, one of the
// same model that lends its metadata and its tokenizer, or one that was never
// written: the file that llama.cpp's converter would make.
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
  std::string content;  // of a made file the bytes of a slot without parts
};

// Thread-safe.
class GgufTemplate {
 public:
  // `gguf` is a GGUF checkpoint.  Reads headers only.  The errors of ReadGgufFile.
  static absl::StatusOr<GgufTemplate> Open(const Checkpoint& gguf);

  // Of a checkpoint in safetensors: made from its config.json and its tokenizer, all
  // slots F32.  Made and then read as any other file: what would not be read as the
  // same model is refused (FEATURE_UNSUPPORTED), and so is a tokenizer that has no
  // certain counterpart (gguf_vocabulary.h).
  static absl::StatusOr<GgufTemplate> Make(const Checkpoint& model);

  // All pairs of the (first) file.  Views that live as long as this does.
  absl::Span<const GgufKeyValue> pairs() const { return files_.front().header.pairs; }
  // By file and ascending offset.
  const std::vector<GgufSlot>& slots() const { return slots_; }
  // What a person should know of a made file.
  const std::vector<std::string>& notes() const { return notes_; }
  // Bytes [offset, offset + out.size()) of a slot, as they lie.
  absl::Status ReadBytes(const GgufSlot& slot, uint64_t offset, absl::Span<std::byte> out) const;

 private:
  // Gives each slot what it holds; both lists are by file and ascending offset.
  absl::Status AssignParts(absl::Span<const StoredTensor> parts, const std::string& path);

  std::vector<GgufFile> files_;
  std::vector<std::unique_ptr<ReadableFile>> readers_;
  std::vector<GgufSlot> slots_;
  std::vector<std::string> notes_;
};

// Rows [first, first + count) of `tensor` (a vector as one row) as a GGUF file
// with `encoding` keeps them: its rows paired for the rotation where it has
// heads, its constant added.  `out` holds exactly these rows.
absl::Status ReadRowsForGguf(const Checkpoint& checkpoint, const StoredTensor& tensor,
                             const RowEncoding& encoding, int64_t first, int64_t count,
                             absl::Span<float> out);

}  // namespace linchpin
