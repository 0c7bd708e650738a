#include "pipeline/prepare.h"

#include <thread>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "forward/forward_pass.h"
#include "forward/libtorch_module.h"
#include "pipeline/calibration.h"

namespace linchpin {

absl::StatusOr<Prepared> Prepare(const Checkpoint& checkpoint, const CompressOptions& options,
                                 const RunContext& context) {
  Prepared prepared;
  if (options.detect.skip) return prepared;
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config));
  const std::jthread loading = LoadLibTorchMeanwhile();
  std::optional<Calibration> calibration;
  if (NeedsImportance(options.quantize)) {
    ASSIGN_OR_RETURN(calibration, Calibration::Start(checkpoint, pass, options.calibration));
  }
  ASSIGN_OR_RETURN(prepared.detection, DetectIn(checkpoint, pass, options.detect, context,
                                                calibration ? &*calibration : nullptr));
  if (!calibration) return prepared;
  prepared.importance = calibration->Take();
  prepared.calibration = CalibrationRecord{calibration->origin(), calibration->tokens()};
  return prepared;
}

}  // namespace linchpin
