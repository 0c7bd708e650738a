#include "pipeline/measurement.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

// Windows on their way through a model's layers, and what predicts from their end.
struct Streams {
  const Head* head = nullptr;
  std::vector<Matrix> hidden;  // per window
};

// `what` goes through the layers, for progress.
absl::StatusOr<Streams> RunLayers(const ForwardPass& pass, const Head& head,
                                  absl::Span<const TokenWindow> windows, std::string_view what,
                                  const RunContext& context) {
  Streams streams{&head, {}};
  for (const TokenWindow& window : windows) {
    ASSIGN_OR_RETURN(streams.hidden.emplace_back(), pass.Embed(window));
  }
  std::vector<Lane> lanes;
  for (Matrix& stream : streams.hidden) lanes.push_back({&stream});
  for (int i = 0; i < pass.layers(); ++i) {
    RETURN_IF_ERROR(context.Check());
    context.Report({Stage::kForward, fmt::format("{}layer {}", what, i),
                    static_cast<uint64_t>(i) * pass.layer_bytes(),
                    static_cast<uint64_t>(pass.layers()) * pass.layer_bytes()});
    RETURN_IF_ERROR(pass.RunLayer(i, lanes, context));
  }
  return streams;
}

// Adds what all of them predict; each but the first is measured against the first.
absl::Status AddScores(absl::Span<const Streams* const> streams,
                       absl::Span<const TokenWindow> windows, const RunContext& context,
                       absl::Span<LossSums* const> sums) {
  std::vector<ScoreLane> lanes;
  for (size_t model = 0; model < streams.size(); ++model) {
    for (size_t i = 0; i < windows.size(); ++i) {
      const int reference = model == 0 ? -1 : static_cast<int>(i);
      lanes.push_back({&streams[model]->hidden[i], windows[i], reference, streams[model]->head});
    }
  }
  ASSIGN_OR_RETURN(const std::vector<TokenScores> scores,
                   streams.front()->head->Score(lanes, context));
  for (size_t i = 0; i < scores.size(); ++i) sums[i / windows.size()]->Add(scores[i]);
  return absl::OkStatus();
}

}  // namespace

void LossSums::Add(const TokenScores& scores) {
  loss = std::accumulate(scores.losses.begin(), scores.losses.end(), loss);
  kl = std::accumulate(scores.divergences.begin(), scores.divergences.end(), kl);
  tokens += static_cast<int64_t>(scores.losses.size());
}

double LossSums::Loss() const { return loss / static_cast<double>(tokens); }

// A sum in float32 may be below 0, by a rounding.
double LossSums::Divergence() const { return std::max(0.0, kl / static_cast<double>(tokens)); }

Measurement::Measurement(const Model& own, const std::optional<Model>& against,
                         std::vector<LensArm> arms, const RunContext& context)
    : own_(own),
      against_(against),
      arms_(std::move(arms)),
      context_(context),
      of_arms_(arms_.size()) {}

absl::Status Measurement::Add(absl::Span<const TokenWindow> windows) {
  ASSIGN_OR_RETURN(const Streams own, RunLayers(own_.pass, own_.head, windows, "", context_));
  if (against_) {
    ASSIGN_OR_RETURN(const Streams other,
                     RunLayers(against_->pass, against_->head, windows, "against, ", context_));
    RETURN_IF_ERROR(AddScores({&other, &own}, windows, context_, {&of_against_, &of_own_}));
  } else if (arms_.empty()) {
    RETURN_IF_ERROR(AddScores({&own}, windows, context_, {&of_own_}));
  }
  for (size_t i = 0; i < arms_.size(); ++i) {
    ASSIGN_OR_RETURN(const auto lens, arms_[i].make());
    ASSIGN_OR_RETURN(const ForwardPass pass,
                     ForwardPass::Open(*own_.checkpoint, own_.pass.config(), lens.get()));
    const std::string what = fmt::format("{} ({} of {}), ", arms_[i].name, i + 1, arms_.size());
    ASSIGN_OR_RETURN(const Streams arm, RunLayers(pass, own_.head, windows, what, context_));
    LossSums again;  // of the model itself: counted with the first arm, or above
    LossSums& of_own = i == 0 && !against_ ? of_own_ : again;
    RETURN_IF_ERROR(AddScores({&own, &arm}, windows, context_, {&of_own, &of_arms_[i]}));
  }
  return absl::OkStatus();
}

}  // namespace linchpin
