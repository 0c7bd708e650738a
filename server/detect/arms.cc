#include "detect/arms.h"

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

using Edits = std::vector<DownProjEdit>;

// One window of one arm.  It has no hidden state of its own until it leaves
// the untouched model at its first edited layer.
struct ArmWindow {
  const Edits* edits;
  size_t window = 0;
  int first_layer = 0;
  Matrix hidden;
};

int FirstLayer(const Edits& edits, int layers) {
  int first = layers;
  for (const DownProjEdit& edit : edits) first = std::min(first, edit.layer);
  return first;
}

// Every window of the untouched model, then every window of every arm.
absl::StatusOr<std::vector<ArmWindow>> StartLanes(const ForwardPass& pass,
                                                  const std::vector<TokenWindow>& windows,
                                                  const std::vector<Edits>& arms) {
  static const Edits kNoEdits;
  std::vector<ArmWindow> lanes;
  for (size_t window = 0; window < windows.size(); ++window) {
    ASSIGN_OR_RETURN(Matrix hidden, pass.Embed(windows[window]));
    lanes.push_back({&kNoEdits, window, 0, std::move(hidden)});
  }
  for (const Edits& edits : arms) {
    for (size_t window = 0; window < windows.size(); ++window) {
      lanes.push_back({&edits, window, FirstLayer(edits, pass.layers()), {}});
    }
  }
  return lanes;
}

absl::Status RunLayers(const ForwardPass& pass, std::vector<ArmWindow>& lanes,
                       const RunContext& context) {
  for (int i = 0; i < pass.layers(); ++i) {
    context.Report({Stage::kDetect, fmt::format("proof, layer {}", i),
                    static_cast<uint64_t>(i) * pass.layer_bytes(),
                    static_cast<uint64_t>(pass.layers()) * pass.layer_bytes()});
    std::vector<Lane> running;
    for (ArmWindow& lane : lanes) {
      if (lane.first_layer == i && lane.hidden.rows == 0) lane.hidden = lanes[lane.window].hidden;
      if (i >= lane.first_layer) running.push_back({&lane.hidden, *lane.edits});
    }
    RETURN_IF_ERROR(pass.RunLayer(i, running, context));
  }
  return absl::OkStatus();
}

void Append(const std::vector<float>& values, std::vector<float>& all) {
  all.insert(all.end(), values.begin(), values.end());
}

absl::StatusOr<std::vector<ArmScores>> ScoreLanes(const ForwardPass& pass,
                                                  const std::vector<TokenWindow>& windows,
                                                  const std::vector<ArmWindow>& lanes,
                                                  const RunContext& context) {
  ASSIGN_OR_RETURN(const Head head, pass.LoadHead());
  std::vector<ScoreLane> scored;
  for (size_t at = windows.size(); at < lanes.size(); ++at) {
    const ArmWindow& lane = lanes[at];
    // An arm without edits never left the untouched model.
    const Matrix& hidden = lane.hidden.rows > 0 ? lane.hidden : lanes[lane.window].hidden;
    const bool first = scored.size() < windows.size();
    scored.push_back({&hidden, windows[lane.window], first ? -1 : static_cast<int>(lane.window)});
  }
  ASSIGN_OR_RETURN(const std::vector<TokenScores> scores, head.Score(scored, context));
  std::vector<ArmScores> arms(scores.size() / windows.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    ArmScores& arm = arms[i / windows.size()];
    Append(scores[i].losses, arm.losses);
    Append(scores[i].divergences, arm.divergences);
  }
  return arms;
}

}  // namespace

absl::StatusOr<std::vector<ArmScores>> MeasureArms(const ForwardPass& pass,
                                                   const std::vector<TokenWindow>& windows,
                                                   const std::vector<Edits>& arms,
                                                   const RunContext& context) {
  ASSIGN_OR_RETURN(std::vector<ArmWindow> lanes, StartLanes(pass, windows, arms));
  RETURN_IF_ERROR(RunLayers(pass, lanes, context));
  return ScoreLanes(pass, windows, lanes, context);
}

}  // namespace linchpin
