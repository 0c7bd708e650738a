#include "service/engine.h"

#include "artifact/manifest.h"
#include "checkpoint/model_config.h"
#include "forward/libtorch_version.h"
#include "pipeline/demo_model.h"

namespace linchpin {

Engine PipelineEngine() {
  return {.compress = Compress,
          .plan = PlanCompression,
          .survey = SurveySource,
          .detect = Detect,
          .evaluate = Evaluate,
          .prepare = PrepareCompression,
          .compress_shard = CompressShard,
          .finalize = FinalizeCompression,
          .verify = VerifyArtifact,
          .write_demo_model = WriteDemoModel,
          .detection_json = [](const Detection& found) { return DetectionToJson(found).dump(); },
          .libtorch_version = LibTorchVersion,
          .version = LINCHPIN_VERSION,
          .families = SupportedFamilies()};
}

}  // namespace linchpin
