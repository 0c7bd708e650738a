// What a compression learns of the model before it rounds a weight: its super
// weights and, for ScaleRule::kImportance, how much each input channel matters.
// One pass through the model for both.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "artifact/manifest.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "pipeline/compress.h"
#include "tensor/importance.h"

namespace linchpin {

struct Prepared {
  std::optional<Detection> detection;            // none where it is skipped
  Importance importance;                         // empty unless scales go by it
  std::optional<CalibrationRecord> calibration;  // the tokens that told
};

// Nothing of it where detection is skipped, which takes a forward pass.  The errors
// of ForwardPass::Open, Calibration::Start and DetectIn.
absl::StatusOr<Prepared> Prepare(const Checkpoint& checkpoint, const CompressOptions& options,
                                 const RunContext& context);

// Without a detection there is nothing that it could be told: OPTION_INVALID.
absl::Status CheckSkipped(const CompressOptions& options);

// What a person should know of an output that is made without one.
void NoteSkipped(Plan& plan);

}  // namespace linchpin
