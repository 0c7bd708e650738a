#include "service/engine.h"

#include "artifact/manifest.h"
#include "checkpoint/model_config.h"
#include "forward/libtorch_version.h"
#include "pipeline/demo_model.h"
#include "pipeline/memory_estimate.h"

namespace linchpin {

Engine PipelineEngine() {
  return {.compress = Compress,
          .plan = PlanCompression,
          .estimate_memory =
              [](const Storage& storage, const std::string& source, int threads,
                 const TokenLoad& load) { return EstimateMemory(storage, source, threads, load); },
          .detect = Detect,
          .evaluate = Evaluate,
          .verify = VerifyArtifact,
          .write_demo_model = WriteDemoModel,
          .detection_json = [](const Detection& found) { return DetectionToJson(found).dump(); },
          .version = LINCHPIN_VERSION,
          .libtorch_version = LibTorchVersion(),
          .families = SupportedFamilies()};
}

}  // namespace linchpin
