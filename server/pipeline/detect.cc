#include "pipeline/detect.h"

#include <utility>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "detect/peel.h"
#include "detect/proof.h"
#include "detect/published.h"
#include "detect/study_model.h"
#include "forward/forward_pass.h"
#include "pipeline/stage_timer.h"

namespace linchpin {

namespace {

// The tokens that a request gives, or else our own.
absl::StatusOr<ProofTokens> TokensToProveOn(const Checkpoint& checkpoint, const ModelConfig& config,
                                            const DetectRequest& request) {
  ProofTokens tokens;
  if (!request.proof_tokens.empty()) {
    ASSIGN_OR_RETURN(tokens.windows,
                     MakeWindows(checkpoint, config, request.proof_tokens, request.proof_windows));
    return tokens;
  }
  ASSIGN_OR_RETURN(BuiltInTokens built_in,
                   MakeBuiltInTokens(checkpoint, config, request.proof_windows));
  tokens.windows = std::move(built_in.windows);
  tokens.no_text_because = std::move(built_in.no_text_because);
  tokens.origin =
      tokens.no_text_because.empty() ? TokenOrigin::kBuiltInText : TokenOrigin::kBuiltInIds;
  return tokens;
}

}  // namespace

absl::StatusOr<Detection> Detect(const Storage& storage, std::string_view source,
                                 const DetectRequest& request, const RunContext& context) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config));
  ASSIGN_OR_RETURN(Detection detection, DetectIn(checkpoint, pass, request, context));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  return detection;
}

absl::StatusOr<Detection> DetectIn(const Checkpoint& checkpoint, const ForwardPass& pass,
                                   const DetectRequest& request, const RunContext& context,
                                   Calibration* beside) {
  const ModelConfig& config = pass.config();
  ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                   MakePrompt(checkpoint, config, request.prompt));
  ProofTokens tokens;
  if (request.proof != ProofLevel::kNone || request.study) {
    ASSIGN_OR_RETURN(tokens, TokensToProveOn(checkpoint, config, request));
  }
  const StageTimer forward(Stage::kForward, context);
  const std::vector<Lane> lanes = beside == nullptr ? std::vector<Lane>() : beside->Lanes();
  ASSIGN_OR_RETURN(Detection detection,
                   Peel(checkpoint, pass, prompt, request.options, context, lanes));
  forward.Done(checkpoint.total_bytes(), 0);
  ComparePublished(IdentifyModel(config, checkpoint.config_text(), checkpoint.path()), detection);
  if (request.proof != ProofLevel::kNone) {
    const StageTimer proof(Stage::kDetect, context);
    RETURN_IF_ERROR(Prove(checkpoint, pass, tokens, request.proof, context, detection));
    proof.Done(checkpoint.total_bytes(), 0);
  }
  if (request.study) {
    const StageTimer study(Stage::kDetect, context);
    RETURN_IF_ERROR(StudyModel(checkpoint, pass, tokens.windows, context, detection));
    study.Done(checkpoint.total_bytes(), 0);
  }
  return detection;
}

}  // namespace linchpin
