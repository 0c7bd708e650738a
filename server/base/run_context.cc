#include "base/run_context.h"

namespace linchpin {

std::string_view StageName(Stage stage) {
  constexpr std::string_view kNames[kStageCount] = {"checkpoint", "forward", "detect", "quantize",
                                                    "artifact"};
  return kNames[static_cast<int>(stage)];
}

std::string_view TensorActionName(TensorAction action) {
  constexpr std::string_view kNames[kTensorActionCount] = {"quantized", "preserved", "copied",
                                                           "equalized"};
  return kNames[static_cast<int>(action)];
}

absl::Status RunContext::Check() const {
  if (!stop.stop_requested()) return absl::OkStatus();
  return Error(Reason::kCancelled, "job", "the caller cancelled it or is gone");
}

}  // namespace linchpin
