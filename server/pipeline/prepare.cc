#include "pipeline/prepare.h"

#include <thread>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "forward/forward_pass.h"
#include "forward/libtorch_module.h"
#include "pipeline/calibration.h"
#include "quantize/equalization.h"
#include "quantize/linear_layers.h"

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
  if (options.quantize.equalize) {
    ASSIGN_OR_RETURN(const LinearLayers layers, LinearLayersOf(checkpoint));
    AddNorms(layers.normed, prepared.importance);
  }
  prepared.calibration = CalibrationRecord{calibration->origin(), calibration->tokens()};
  return prepared;
}

absl::Status CheckSkipped(const CompressOptions& options) {
  RETURN_IF_ERROR(CheckAlone(options.detect));
  if (!options.detect.skip) return absl::OkStatus();
  if (NeedsImportance(options.quantize)) {
    return Error(Reason::kOptionInvalid, "scale",
                 "importance takes a forward pass, and detection is off",
                 fmt::format("use {}, or leave detection on",
                             NameOf(ScaleWithoutImportance(options.quantize))));
  }
  if (options.calibration.empty()) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, "calibration",
               "its tokens go through a forward pass, and detection is off",
               "leave one of them out");
}

void NoteSkipped(Plan& plan) {
  plan.notes.emplace_back(
      "detection is off: whether the model has super weights is not known, and none is kept");
  if (TraitsOf(plan.options.scheme).codes == CodeKind::kNone) return;
  plan.notes.back() +=
      fmt::format("; scales are {}, not weighed by what comes in", NameOf(plan.options.scale));
}

}  // namespace linchpin
