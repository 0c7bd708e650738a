// Writes a compressed model directory, in any of the formats.
//
// compressed-tensors loads in vLLM, SGLang and transformers; quantize/packed_tensors.h
// says what a quantized linear layer is stored as.  Dense is the same without what
// says that it is quantized.  Shard names are kept (shard_files.h), and what lies
// beside the weights is carried over (side_files.h).  GGUF is one file.  Beside
// either lies the adapter that puts super weights back, where that was asked for
// (kept_weights.h).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "artifact/read_back.h"
#include "artifact/shard_files.h"
#include "artifact/tensor_writer.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

struct ArtifactRecord {
  std::vector<TensorRecord> tensors;  // in plan order
  std::vector<FileRecord> files;      // sorted by name, the manifest left out
  // The plan's super weights, read back from the bytes that were written.
  std::vector<KeptWeight> kept;
  // What a person should know besides the plan's notes.
  std::vector<std::string> notes;
};

// Encodes and writes everything of the plan but the manifest into `output`:
// threads take tensors one by one and stream them in row slabs, so that memory
// is threads x slab.  Where `output` was taken over from a killed run, what stands
// there already is kept (journal.h).  NOT_FINITE names tensor and index.  Nothing is visible
// until the caller commits `output`.  Reports the stages quantize (tensors) and
// artifact (the other files, digests).  `importance` may be null; `pattern` is
// that of the plan, for GGUF only.
absl::StatusOr<ArtifactRecord> WriteArtifact(const Checkpoint& checkpoint, const Plan& plan,
                                             OutputDirectory& output, const RunContext& context,
                                             const Importance* importance = nullptr,
                                             const GgufTemplate* pattern = nullptr);

// The tensors of the plan alone, into files that were created for it in `output`: a
// record without notes, and with the digests of these files alone.
absl::StatusOr<ArtifactRecord> WriteWeights(const Checkpoint& checkpoint, const Plan& plan,
                                            const ShardFiles& shards, OutputDirectory& output,
                                            const RunContext& context,
                                            const Importance* importance);

// Digests of files that were written beside the tensors, sorted by name.
absl::StatusOr<std::vector<FileRecord>> DigestSideFiles(const std::vector<ShardFiles::File>& files,
                                                        const RunContext& context);

}  // namespace linchpin
