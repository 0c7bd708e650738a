// Writes a compressed model directory, in any of the formats.
//
// compressed-tensors loads in vLLM, SGLang and transformers.  quantize/packed_tensors.h says what a
// quantized linear layer is stored as.  Shard names are kept,
// config.json gains `quantization_config`, an index is written where the source
// had one, Checkpoint::other_files are copied unchanged, but for the manifest of
// an earlier run.  Dense is the same without what says that it is quantized.  Of
// a GGUF source the config and, where it can be mapped, the tokenizer are made
// from the metadata.  GGUF is one file (shard_files.h).  Beside either lies the
// adapter that puts super weights back, where that was asked for.
// Layout: https://github.com/vllm-project/compressed-tensors
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/digest.h"
#include "artifact/read_back.h"
#include "artifact/tensor_writer.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "format/json.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

inline constexpr std::string_view kManifestName = "linchpin.json";

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
// is threads x slab.  NOT_FINITE names tensor and index.  Nothing is visible
// until the caller commits `output`.  Reports the stages quantize (tensors) and
// artifact (the other files, digests).  `importance` may be null; `pattern` is
// that of the plan, for GGUF only.
absl::StatusOr<ArtifactRecord> WriteCompressedTensors(const Checkpoint& checkpoint,
                                                      const Plan& plan, OutputDirectory& output,
                                                      const RunContext& context,
                                                      const Importance* importance = nullptr,
                                                      const GgufTemplate* pattern = nullptr);

// The config.json of the checkpoint in the dtype of the plan: of a GGUF file with
// the names that loaders look for, of 8-bit weights without their quantization.
// CONFIG_INVALID for a text that is no JSON object.
absl::StatusOr<Json> PlainConfig(const Checkpoint& checkpoint, const Plan& plan);

// config.json with `quantization_config` for the plan.  CONFIG_INVALID for a
// text that is no JSON object, FEATURE_UNSUPPORTED where it has one already.
absl::StatusOr<Json> QuantizedConfig(std::string_view config_text, const Plan& plan);

}  // namespace linchpin
