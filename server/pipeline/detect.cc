#include "pipeline/detect.h"

#include <thread>
#include <utility>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "detect/peel.h"
#include "detect/proof.h"
#include "detect/published.h"
#include "detect/stability.h"
#include "detect/study_model.h"
#include "detect/weight_prior.h"
#include "forward/forward_pass.h"
#include "forward/libtorch_module.h"
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

// By weights alone.
absl::StatusOr<Detection> DetectByWeights(const Checkpoint& checkpoint,
                                          const DetectRequest& request, const RunContext& context) {
  constexpr size_t kSuspects = 10;
  if (request.proof != ProofLevel::kNone || request.study || request.prompts != 1 ||
      !request.prompt.empty()) {
    return Error(Reason::kOptionInvalid, "weights_only",
                 "a prompt, a proof or a study is asked for, too, and they need a forward pass",
                 "leave one of them out");
  }
  const StageTimer timer(Stage::kDetect, context);
  Detection detection;
  detection.options = request.options;
  ASSIGN_OR_RETURN(detection.suspects, SuspectRows(checkpoint, kSuspects, context));
  timer.Done(checkpoint.total_bytes(), 0);
  return detection;
}

// By a forward pass of each prompt, the lanes `beside` with them.
absl::StatusOr<Detection> DetectByActivations(const Checkpoint& checkpoint, const ForwardPass& pass,
                                              const std::vector<NamedPrompt>& prompts,
                                              const DetectOptions& options,
                                              const RunContext& context,
                                              absl::Span<const Lane> beside) {
  const StageTimer timer(Stage::kForward, context);
  std::vector<std::string> names;
  std::vector<std::vector<int32_t>> ids;
  for (const NamedPrompt& prompt : prompts) {
    names.push_back(prompt.name);
    ids.push_back(prompt.ids);
  }
  ASSIGN_OR_RETURN(std::vector<Detection> detections,
                   PeelEach(checkpoint, pass, ids, options, context, beside));
  Detection detection = detections.size() == 1 ? std::move(detections.front())
                                               : WithStability(names, std::move(detections));
  RETURN_IF_ERROR(RankByWeights(checkpoint, context, detection));
  timer.Done(checkpoint.total_bytes(), 0);
  return detection;
}

}  // namespace

absl::Status CheckAlone(const DetectRequest& request) {
  const bool alone = !request.weights_only && request.proof == ProofLevel::kNone &&
                     !request.study && request.prompts == 1 && request.prompt.empty();
  if (!request.skip || alone) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, "detection",
               "it is off, and a prompt, a proof, a study or suspects are asked for, too",
               "leave it on");
}

absl::StatusOr<Detection> Detect(const Storage& storage, std::string_view source,
                                 const DetectRequest& request, const RunContext& context) {
  if (request.skip) {
    return Error(Reason::kOptionInvalid, "detection", "it is off, and all that is asked for",
                 "leave it on");
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(storage, source));
  if (request.weights_only) {
    ASSIGN_OR_RETURN(Detection suspects, DetectByWeights(checkpoint, request, context));
    RETURN_IF_ERROR(checkpoint.CheckUnchanged());
    return suspects;
  }
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint.config_text()));
  ASSIGN_OR_RETURN(const ForwardPass pass, ForwardPass::Open(checkpoint, config));
  const std::jthread loading = LoadLibTorchMeanwhile();
  ASSIGN_OR_RETURN(Detection detection, DetectIn(checkpoint, pass, request, context));
  RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  return detection;
}

absl::StatusOr<Detection> DetectIn(const Checkpoint& checkpoint, const ForwardPass& pass,
                                   const DetectRequest& request, const RunContext& context,
                                   Calibration* beside) {
  if (request.weights_only) {
    return Error(Reason::kOptionInvalid, "weights_only",
                 "it names suspects, and what is to be kept must be found",
                 "leave it out, or ask for a detection alone");
  }
  const ModelConfig& config = pass.config();
  ASSIGN_OR_RETURN(const std::vector<NamedPrompt> prompts,
                   MakePrompts(checkpoint, config, request.prompt, request.prompts));
  ProofTokens tokens;
  if (request.proof != ProofLevel::kNone || request.study) {
    ASSIGN_OR_RETURN(tokens, TokensToProveOn(checkpoint, config, request));
  }
  const std::vector<Lane> lanes = beside == nullptr ? std::vector<Lane>() : beside->Lanes();
  ASSIGN_OR_RETURN(Detection detection,
                   DetectByActivations(checkpoint, pass, prompts, request.options, context, lanes));
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
