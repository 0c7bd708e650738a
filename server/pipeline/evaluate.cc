#include "pipeline/evaluate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "detect/arms.h"
#include "fmt/format.h"
#include "forward/forward_pass.h"

namespace linchpin {
namespace {

struct Model {
  std::unique_ptr<const Checkpoint> checkpoint;  // the pass points to it
  ForwardPass pass;
  Head head;
};

absl::StatusOr<Model> OpenModel(const Storage& storage, std::string_view source) {
  ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(storage, source));
  auto checkpoint = std::make_unique<const Checkpoint>(std::move(opened));
  ASSIGN_OR_RETURN(const ModelConfig config,
                   ModelConfig::Parse("config.json", checkpoint->config_text()));
  ASSIGN_OR_RETURN(ForwardPass pass, ForwardPass::Open(*checkpoint, config));
  ASSIGN_OR_RETURN(Head head, pass.LoadHead());
  return Model{std::move(checkpoint), std::move(pass), std::move(head)};
}

// The residual streams of `windows` after the last layer.
absl::StatusOr<std::vector<Matrix>> RunLayers(const Model& model,
                                              absl::Span<const TokenWindow> windows,
                                              const RunContext& context) {
  std::vector<Matrix> hidden;
  for (const TokenWindow& window : windows) {
    ASSIGN_OR_RETURN(hidden.emplace_back(), model.pass.Embed(window));
  }
  std::vector<Lane> lanes;
  for (Matrix& stream : hidden) lanes.push_back({&stream});
  for (int i = 0; i < model.pass.layers(); ++i) {
    RETURN_IF_ERROR(context.Check());
    context.Report({Stage::kForward, fmt::format("layer {}", i),
                    static_cast<uint64_t>(i) * model.pass.layer_bytes(),
                    static_cast<uint64_t>(model.pass.layers()) * model.pass.layer_bytes()});
    RETURN_IF_ERROR(model.pass.RunLayer(i, lanes, context));
  }
  return hidden;
}

// Sums over the predicted tokens of one model.
struct Sums {
  double loss = 0;
  double kl = 0;
  int64_t tokens = 0;

  void Add(const TokenScores& scores) {
    loss = std::accumulate(scores.losses.begin(), scores.losses.end(), loss);
    kl = std::accumulate(scores.divergences.begin(), scores.divergences.end(), kl);
    tokens += static_cast<int64_t>(scores.losses.size());
  }
};

// The windows through every model; each but the first is measured against the first.
absl::Status AddWindows(const std::vector<Model>& models, absl::Span<const TokenWindow> windows,
                        const RunContext& context, std::vector<Sums>& sums) {
  std::vector<std::vector<Matrix>> hidden;
  std::vector<ScoreLane> lanes;
  for (const Model& model : models) {
    ASSIGN_OR_RETURN(hidden.emplace_back(), RunLayers(model, windows, context));
    for (size_t i = 0; i < windows.size(); ++i) {
      const int reference = hidden.size() == 1 ? -1 : static_cast<int>(i);
      lanes.push_back({&hidden.back()[i], windows[i], reference, &model.head});
    }
  }
  ASSIGN_OR_RETURN(const std::vector<TokenScores> scores,
                   models.front().head.Score(lanes, context));
  for (size_t i = 0; i < scores.size(); ++i) sums[i / windows.size()].Add(scores[i]);
  return absl::OkStatus();
}

absl::Status CheckVocabularies(const std::vector<Model>& models) {
  const int64_t own = models.back().head.vocab();
  const int64_t other = models.front().head.vocab();
  if (own == other) return absl::OkStatus();
  return Error(Reason::kOptionInvalid, "against",
               fmt::format("it predicts {} tokens and the evaluated model {}", other, own),
               "compare models that share a vocabulary");
}

}  // namespace

absl::StatusOr<Evaluation> Evaluate(const Storage& storage, std::string_view source,
                                    std::string_view against, const TokenSource& tokens,
                                    const WindowOptions& windows, const RunContext& context) {
  std::vector<Model> models;  // the evaluated one last
  for (const std::string_view path : {against, source}) {
    if (path.empty()) continue;
    ASSIGN_OR_RETURN(Model model, OpenModel(storage, path));
    models.push_back(std::move(model));
  }
  RETURN_IF_ERROR(CheckVocabularies(models));
  const Model& own = models.back();
  ASSIGN_OR_RETURN(const std::vector<TokenWindow> sequences,
                   MakeWindows(*own.checkpoint, own.pass.config(), tokens, windows));
  int64_t widest = 0;
  for (const Model& model : models) widest = std::max(widest, model.pass.config().hidden);
  const size_t together = StreamsTogether(sequences, widest) / models.size();

  std::vector<Sums> sums(models.size());
  const absl::Span<const TokenWindow> all = sequences;
  for (size_t i = 0; i < all.size(); i += together) {
    RETURN_IF_ERROR(AddWindows(models, all.subspan(i, together), context, sums));
  }
  for (const Model& model : models) RETURN_IF_ERROR(model.checkpoint->CheckUnchanged());
  const auto count = static_cast<double>(sums.back().tokens);
  Evaluation result;
  result.tokens = sums.back().tokens;
  result.loss = sums.back().loss / count;
  result.perplexity = std::exp(result.loss);
  if (!against.empty()) {
    const double loss = sums.front().loss / count;
    result.against = {loss, std::exp(loss), std::max(0.0, sums.back().kl / count)};
  }
  return result;
}

}  // namespace linchpin
