// The files of an output beside its weights: config, index, tokenizer, licence.
//
// config.json gains `quantization_config`, an index is written where the source
// had one, Checkpoint::other_files are copied unchanged, but for the manifest of
// an earlier run.  Of a GGUF source the config and, where it can be mapped, the
// tokenizer are made from the metadata.  A GGUF output has none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "artifact/shard_files.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// Created, written, and kept open for their digests.  Not thread-safe.
class SideFiles {
 public:
  explicit SideFiles(OutputDirectory& output) : output_(output) {}

  absl::Status Write(std::string_view name, std::string_view text);
  // From beside the checkpoint; SOURCE_CHANGED if it changed meanwhile.
  absl::Status Copy(const Checkpoint& checkpoint, const std::string& name,
                    const RunContext& context);

  const std::vector<ShardFiles::File>& files() const { return files_; }

 private:
  absl::StatusOr<WritableFile*> Create(std::string_view name, uint64_t size);

  OutputDirectory& output_;
  std::vector<ShardFiles::File> files_;
};

// All that belong to the plan's format.  What could not be carried over goes into
// `notes`.
absl::Status WriteSideFiles(const Checkpoint& checkpoint, const Plan& plan, const ShardIndex& index,
                            const RunContext& context, SideFiles& side,
                            std::vector<std::string>& notes);

}  // namespace linchpin
