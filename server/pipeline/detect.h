// Opens a checkpoint and finds its super weights, with a proof where asked.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"
#include "pipeline/calibration.h"
#include "pipeline/tokens.h"
#include "storage/storage.h"

namespace linchpin {

struct DetectRequest {
  DetectOptions options;
  TokenSource prompt;  // empty: BOS and a few fixed ids; else its first sequence
  int prompts = 1;     // as many as MakePrompts makes; all but the first are for stability
  // No forward pass: suspects by weights alone, of any family whose MLPs have known names.
  bool weights_only = false;
  // For Compress: no detection at all.
  bool skip = false;
  ProofLevel proof = ProofLevel::kNone;
  bool study = false;        // detect/study.h, on the proof's tokens
  TokenSource proof_tokens;  // empty: MakeBuiltInTokens
  WindowOptions proof_windows;
};

// OPTION_INVALID where detection is skipped and anything else is asked of it.
absl::Status CheckAlone(const DetectRequest& request);

// FAMILY_UNSUPPORTED, TENSOR_MISSING, ... as ModelConfig, Checkpoint and
// ForwardPass give them; OPTION_INVALID where weights only are asked for with a
// prompt, prompts or a proof, which need a forward pass.
absl::StatusOr<Detection> Detect(const Storage& storage, std::string_view source,
                                 const DetectRequest& request, const RunContext& context);

// The same on an opened checkpoint; OPTION_INVALID for weights only.  The lanes of `beside`, where
// it is not null, go through the model with the first pass.
absl::StatusOr<Detection> DetectIn(const Checkpoint& checkpoint, const ForwardPass& pass,
                                   const DetectRequest& request, const RunContext& context,
                                   Calibration* beside = nullptr);

}  // namespace linchpin
