// The output's files of tensors, laid out before a weight is read.
//
// Within a safetensors file wider element types come first, so that every tensor is
// aligned to its element; otherwise the plan's order holds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_template.h"
#include "format/shard_index.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// Where the bytes of one output tensor go.  Thread-safe, as its file is.
struct TensorSlot {
  WritableFile* file = nullptr;
  uint64_t begin = 0;
  uint64_t size = 0;

  absl::Status Write(uint64_t offset, absl::Span<const std::byte> bytes) const {
    return file->WriteAt(begin + offset, bytes);
  }
  absl::Status Read(uint64_t offset, absl::Span<std::byte> out) const {
    return file->ReadAt(begin + offset, out);
  }
};

inline constexpr std::string_view kGgufName = "model.gguf";

class ShardFiles {
 public:
  struct File {
    std::string name;
    uint64_t size = 0;
    std::unique_ptr<WritableFile> file;
  };

  // Creates the files and writes their headers.  Shard names are kept; a single
  // file without an index becomes `model.safetensors`, whatever it was called, and
  // so do all files of a GGUF model.
  static absl::StatusOr<ShardFiles> Create(const Checkpoint& checkpoint, const Plan& plan,
                                           OutputDirectory& output);

  // The same of one shard; the plan has no rows of any other.
  static absl::StatusOr<ShardFiles> CreateShard(const Checkpoint& checkpoint, int shard,
                                                const Plan& plan, OutputDirectory& output);

  // Creates kGgufName after the pattern that the plan follows: its pairs but for
  // what says how it was quantized, and the tensors that belong to its config.
  // The errors of LayOutGguf.
  static absl::StatusOr<ShardFiles> CreateGguf(const GgufTemplate& pattern, const Plan& plan,
                                               OutputDirectory& output);

  const std::vector<File>& files() const { return files_; }
  // One slot for each of the plan row's outputs, in their order.
  const std::vector<TensorSlot>& SlotsOf(size_t plan_row) const { return slots_[plan_row]; }
  // For `model.safetensors.index.json`.
  const ShardIndex& index() const { return index_; }

 private:
  ShardFiles() = default;
  absl::Status AddShard(const Checkpoint& checkpoint, int shard, const Plan& plan,
                        OutputDirectory& output);

  std::vector<File> files_;
  std::vector<std::vector<TensorSlot>> slots_;
  ShardIndex index_;
};

}  // namespace linchpin
