// Writes a compressed model directory: compressed-tensors, `pack-quantized`.
//
// Loads in vLLM, SGLang and transformers.  Per quantized linear layer [N, K]
// with prefix = module name: `weight_packed` I32 [N, K/8], `weight_scale` in
// the model's dtype [N, K/g], `weight_shape` I64 [2].  Shard names are kept,
// config.json gains `quantization_config`, an index is written where the source
// had one, everything else of the model directory is copied unchanged.
// Layout: https://github.com/vllm-project/compressed-tensors
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "format/json.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// What the output holds in place of one source tensor.
struct TensorRecord {
  std::string name;    // of the source tensor
  std::string action;  // "quantized" | "preserved" | "copied"
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  double max_error = 0;
  double rms_error = 0;
  std::string sha256;  // of the output tensors' bytes, in plan order
};

struct FileRecord {
  std::string name;
  uint64_t size = 0;
  std::string sha256;
};

struct ArtifactRecord {
  std::vector<TensorRecord> tensors;  // in plan order
  std::vector<FileRecord> files;      // sorted by name, the manifest left out
};

// Encodes and writes everything of the plan but the manifest into `output`:
// threads take tensors one by one and stream them in row slabs, so that memory
// is threads x slab.  NOT_FINITE names tensor and index.  Nothing is visible
// until the caller commits `output`.
absl::StatusOr<ArtifactRecord> WriteCompressedTensors(const Checkpoint& checkpoint,
                                                      const Plan& plan, OutputDirectory& output,
                                                      const RunContext& context);

// config.json with `quantization_config` for the plan.
absl::StatusOr<Json> QuantizedConfig(std::string_view config_text, const Plan& plan);

}  // namespace linchpin
