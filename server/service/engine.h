// The functions that the calls of the service come down to, as values: the
// server runs the pipeline, tests put in what blocks or fails.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "artifact/verify.h"
#include "base/run_context.h"
#include "pipeline/compress.h"
#include "pipeline/detect.h"
#include "pipeline/evaluate.h"
#include "pipeline/memory_estimate.h"
#include "pipeline/shard_job.h"
#include "quantize/plan.h"
#include "storage/storage.h"

namespace linchpin {

// Each is the function of that name in pipeline/ or artifact/ and as thread-safe.
struct Engine {
  using Path = const std::string&;

  std::function<absl::StatusOr<CompressResult>(const Storage& source_storage, Path source,
                                               const Storage& output_storage, Path destination,
                                               const CompressOptions&, const RunContext&)>
      compress;
  std::function<absl::StatusOr<Plan>(const Storage&, Path source, const CompressOptions&)> plan;
  std::function<absl::StatusOr<SourceSurvey>(const Storage&, Path source, int threads,
                                             const TokenLoad&)>
      survey;
  std::function<absl::StatusOr<Detection>(const Storage&, Path source, const DetectRequest&,
                                          const RunContext&)>
      detect;
  std::function<absl::StatusOr<Evaluation>(const Storage&, Path source, const EvaluateRequest&,
                                           const RunContext&)>
      evaluate;
  std::function<absl::StatusOr<PreparedJob>(const Storage&, const ShardJob&, const CompressOptions&,
                                            const RunContext&)>
      prepare;
  std::function<absl::StatusOr<ShardResult>(const Storage&, const ShardJob&, int index,
                                            const RunContext&)>
      compress_shard;
  std::function<absl::StatusOr<CompressResult>(const Storage&, const ShardJob&, bool overwrite,
                                               const RunContext&)>
      finalize;
  std::function<absl::StatusOr<VerifyReport>(const Storage&, Path directory, const RunContext&)>
      verify;
  std::function<absl::StatusOr<uint64_t>(const Storage&, Path directory)> write_demo_model;
  std::function<std::string(const Detection&)> detection_json;

  std::function<std::string()> libtorch_version;  // that it runs on; empty: on none

  std::string version;  // of the product
  std::vector<std::string> families;
};

// The real one.
Engine PipelineEngine();

}  // namespace linchpin
