// Runs tokens beside a detection and learns which input channels matter.
//
// No data of the user's is needed: a neutral paragraph tells nearly all, most of
// it with its first token, where the super activation stands.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"
#include "forward/importance_tap.h"
#include "pipeline/tokens.h"
#include "tensor/importance.h"

namespace linchpin {

// Their residual streams are held together.
inline constexpr size_t kMaxCalibrationTokens = 8192;
inline constexpr WindowOptions kCalibrationWindows = {512, 16};  // of a text
inline constexpr int kBuiltInWindow = 256;

class Calibration {
 public:
  // Of the tokens of `given`, a text cut into windows of 512; the built-in
  // paragraph, or fixed ids, where it is empty.  The errors of MakeWindows;
  // TOKENS_INVALID for more than kMaxCalibrationTokens.
  static absl::StatusOr<Calibration> Start(const Checkpoint& checkpoint, const ForwardPass& pass,
                                           const TokenSource& given);

  // To be taken through all layers, once, while this stays where it is.
  std::vector<Lane> Lanes() { return Lanes(*tap_); }
  // Takes them there with another tap; `after_layer` is called in between.
  absl::Status Run(const ForwardPass& pass, Tap& tap, const RunContext& context,
                   const std::function<absl::Status(int layer)>& after_layer);
  // What they met there.
  Importance Take() const { return tap_->Take(); }

  TokenOrigin origin() const { return origin_; }
  int64_t tokens() const;

 private:
  Calibration() = default;
  std::vector<Lane> Lanes(Tap& tap);

  TokenOrigin origin_ = TokenOrigin::kGiven;
  std::vector<Matrix> hidden_;  // per sequence
  std::unique_ptr<ImportanceTap> tap_ = std::make_unique<ImportanceTap>();
};

}  // namespace linchpin
