// The main job: checkpoint -> forward -> detect -> quantize -> artifact.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/manifest.h"
#include "base/run_context.h"
#include "detect/detection.h"
#include "pipeline/detect.h"
#include "quantize/options.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

struct CompressOptions {
  DetectRequest detect;
  QuantizeOptions quantize;
  TokenSource calibration;  // for ScaleRule::kImportance; empty: built-in tokens
  // Off: the manifest gives names and sizes of the source's files alone.
  bool source_digest = true;
  // Of the source, as far as they were taken before: not taken again.
  std::vector<FileRecord> source_files;
  bool overwrite = false;
  // Where the donor of a GGUF output lies; null: where the source does.
  const Storage* donor_storage = nullptr;
  // Bytes of memory that the job may take, for FitMemory; 0: as much as suits.
  uint64_t max_memory = 0;
  // Of the job: a run that was killed is gone on with by the next of the same key,
  // where the output's store can.  Empty: not.
  std::string key;
};

struct CompressResult {
  std::optional<Detection> detection;  // none where it was skipped
  std::vector<KeptWeight> kept;
  uint64_t bytes_in = 0;   // tensors of the source
  uint64_t bytes_out = 0;  // tensors of the output
  std::vector<std::string> notes;
  std::string manifest;         // the text of linchpin.json
  std::string manifest_sha256;  // lower-case hex
  // All of the output with the digests of what was written, the manifest among them;
  // empty where the output was put together from parts.
  std::vector<FileRecord> files;
};

// Compresses the checkpoint at `source` into a new directory at `destination`.
// The source is only read.  On any error nothing is visible at `destination`.
// OPTION_INVALID where detection is skipped and something needs it.
absl::StatusOr<CompressResult> Compress(const Storage& source_storage, std::string_view source,
                                        const Storage& output_storage, std::string_view destination,
                                        const CompressOptions& options, const RunContext& context);

// The last component of a path, as a manifest names its source.
std::string LastComponent(std::string_view path);

// Writes a small file of an output.
absl::Status WriteText(OutputDirectory& output, std::string_view name, const std::string& text);

// What Compress would do, from headers alone: nothing is detected, read or written.
absl::StatusOr<Plan> PlanCompression(const Storage& storage, std::string_view source,
                                     const CompressOptions& options);

}  // namespace linchpin
