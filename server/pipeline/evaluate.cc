#include "pipeline/evaluate.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"
#include "checkpoint/model_config.h"
#include "fmt/format.h"
#include "pipeline/activation_arms.h"
#include "pipeline/consumer_lens.h"
#include "pipeline/detect.h"
#include "pipeline/measurement.h"

namespace linchpin {
namespace {

// What consumers round that is not measured is noted.
absl::StatusOr<Model> OpenModel(const Storage& storage, std::string_view source,
                                Evaluation& result) {
  ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(storage, source));
  ASSIGN_OR_RETURN(const CompressionConfig compression, opened.Unpack());
  if (!compression.note().empty()) result.notes.push_back(compression.note());
  auto checkpoint = std::make_unique<const Checkpoint>(std::move(opened));
  ASSIGN_OR_RETURN(std::unique_ptr<const LinearLens> lens,
                   ConsumerLens::Of(*checkpoint, compression));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint->config_text()));
  ASSIGN_OR_RETURN(ForwardPass pass, ForwardPass::Open(*checkpoint, config, lens.get()));
  ASSIGN_OR_RETURN(Head head, pass.LoadHead());
  return Model{std::move(checkpoint), std::move(lens), std::move(pass), std::move(head)};
}

absl::Status CheckVocabularies(const Model& own, const Model& other) {
  if (own.head.vocab() == other.head.vocab()) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, "against",
               fmt::format("it predicts {} tokens and the evaluated model {}", other.head.vocab(),
                           own.head.vocab()),
               "compare models that share a vocabulary");
}

absl::StatusOr<std::vector<TokenWindow>> WindowsOf(const Model& model,
                                                   const EvaluateRequest& request,
                                                   Evaluation& result) {
  const ModelConfig& config = model.pass.config();
  if (!request.tokens.empty() || !request.analyses.any()) {
    return MakeWindows(*model.checkpoint, config, request.tokens, request.windows);
  }
  ASSIGN_OR_RETURN(BuiltInTokens built_in,
                   MakeBuiltInTokens(*model.checkpoint, config, request.windows));
  if (!built_in.no_text_because.empty()) {
    result.notes.push_back(
        fmt::format("the tokens are fixed ids ({}): losses and perplexities on them mean little, "
                    "so compare divergences",
                    built_in.no_text_because));
  }
  return std::move(built_in.windows);
}

void Fill(const Measurement& measured, Evaluation& result) {
  result.tokens = measured.own().tokens;
  result.loss = measured.own().Loss();
  result.perplexity = std::exp(result.loss);
  if (const double loss = measured.against().Loss(); measured.against().tokens > 0) {
    result.against = {loss, std::exp(loss), measured.own().Divergence()};
  }
  for (size_t i = 0; i < measured.arms().size(); ++i) {
    const LensArm& arm = measured.arms()[i];
    const LossSums& sums = measured.of_arms()[i];
    auto& rows = arm.block == 0 ? result.activations : result.arms;
    rows.push_back({arm.name, arm.block, sums.Loss(), std::exp(sums.Loss()), sums.Divergence()});
  }
}

// What the analyses need to know first, and what they tell before a token is predicted.
struct Preparation {
  Detection detection;
  std::vector<PinnedWeight> super_weights;
};

absl::StatusOr<Preparation> FindSuperWeights(const Model& model, const AnalysisOptions& options,
                                             const RunContext& context) {
  DetectRequest request{.options = options.detect};
  Preparation prepared;
  ASSIGN_OR_RETURN(prepared.detection, DetectIn(*model.checkpoint, model.pass, request, context));
  prepared.super_weights = PinnedWeights(prepared.detection);
  return prepared;
}

absl::StatusOr<std::vector<LensArm>> MakeArms(const Model& model, const AnalysisOptions& options,
                                              const Preparation& prepared,
                                              const RunContext& context) {
  std::vector<LensArm> arms;
  if (options.arms) arms = WeightArms(*model.checkpoint, options, prepared.super_weights);
  if (!options.activations) return arms;
  ASSIGN_OR_RETURN(std::vector<LensArm> more, ActivationArms(*model.checkpoint, model.pass, options,
                                                             prepared.detection, context));
  std::move(more.begin(), more.end(), std::back_inserter(arms));
  return arms;
}

}  // namespace

absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    const EvaluateRequest& request, const RunContext& context) {
  const AnalysisOptions& analyses = request.analyses;
  RETURN_IF_ERROR(CheckOptions(analyses));
  Evaluation result;
  ASSIGN_OR_RETURN(const Model own, OpenModel(storage, source, result));
  std::optional<Model> against;
  if (!request.against.empty()) {
    ASSIGN_OR_RETURN(against, OpenModel(storage, request.against, result));
    RETURN_IF_ERROR(CheckVocabularies(own, *against));
  }
  ASSIGN_OR_RETURN(const std::vector<TokenWindow> windows, WindowsOf(own, request, result));
  Preparation prepared;
  if (analyses.any()) {
    ASSIGN_OR_RETURN(prepared, FindSuperWeights(own, analyses, context));
    if (prepared.super_weights.empty()) {
      result.notes.emplace_back("no super weight was found: what keeps them changes nothing");
    }
  }
  if (analyses.awq) {
    ASSIGN_OR_RETURN(result.awq, AwqScalesOf(*own.checkpoint, own.pass, prepared.detection,
                                             analyses.calibration, context));
  }
  ASSIGN_OR_RETURN(std::vector<LensArm> arms, MakeArms(own, analyses, prepared, context));
  int64_t widest = own.pass.config().hidden;
  if (against) widest = std::max(widest, against->pass.config().hidden);
  const bool alone = !against && arms.empty();
  const size_t together = StreamsTogether(windows, widest) / (alone ? 1 : 2);
  Measurement measurement(own, against, std::move(arms), context);
  for (size_t i = 0; i < windows.size(); i += together) {
    RETURN_IF_ERROR(measurement.Add(absl::MakeConstSpan(windows).subspan(i, together)));
  }
  RETURN_IF_ERROR(own.checkpoint->CheckUnchanged());
  if (against) RETURN_IF_ERROR(against->checkpoint->CheckUnchanged());
  Fill(measurement, result);
  return result;
}

}  // namespace linchpin
