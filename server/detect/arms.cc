#include "detect/arms.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

// One window of one arm.  It has no hidden state of its own until it leaves
// the untouched model at its first edited layer.
struct ArmWindow {
  const Arm* arm;
  size_t window = 0;
  int first_layer = 0;
  Matrix hidden;
};

// What is measured together: its hidden states fit.
struct Batch {
  absl::Span<const TokenWindow> windows;
  std::vector<const Arm*> arms;
};

int FirstLayer(const Arm& arm, int layers) {
  int first = layers;
  for (const DownProjEdit& edit : arm.edits) first = std::min(first, edit.layer);
  return first;
}

// Every window of the untouched model, then every window of every arm.
absl::StatusOr<std::vector<ArmWindow>> StartLanes(const ForwardPass& pass, const Batch& batch) {
  static const Arm kUntouched = {};
  std::vector<ArmWindow> lanes;
  for (size_t window = 0; window < batch.windows.size(); ++window) {
    ASSIGN_OR_RETURN(Matrix hidden, pass.Embed(batch.windows[window]));
    lanes.push_back({&kUntouched, window, 0, std::move(hidden)});
  }
  for (const Arm* arm : batch.arms) {
    for (size_t window = 0; window < batch.windows.size(); ++window) {
      lanes.push_back({arm, window, FirstLayer(*arm, pass.layers()), {}});
    }
  }
  return lanes;
}

void Restore(int layer, const Matrix& untouched, ArmWindow& lane) {
  for (const RestoredActivation& restored : lane.arm->restored) {
    if (restored.layer != layer) continue;
    const auto at = [&](int64_t token) {
      return static_cast<size_t>(token * untouched.columns + restored.channel);
    };
    int64_t largest = 0;
    for (int64_t token = 1; token < untouched.rows; ++token) {
      if (std::fabs(untouched.data[at(token)]) > std::fabs(untouched.data[at(largest)])) {
        largest = token;
      }
    }
    lane.hidden.data[at(largest)] = untouched.data[at(largest)];
  }
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
      if (i >= lane.first_layer) running.push_back({&lane.hidden, lane.arm->edits});
    }
    RETURN_IF_ERROR(pass.RunLayer(i, running, context));
    for (ArmWindow& lane : lanes) {
      if (lane.hidden.rows > 0) Restore(i, lanes[lane.window].hidden, lane);
    }
  }
  return absl::OkStatus();
}

void Append(const std::vector<float>& values, std::vector<float>& all) {
  all.insert(all.end(), values.begin(), values.end());
}

void Append(const TokenScores& scores, ArmScores& arm) {
  Append(scores.losses, arm.losses);
  Append(scores.divergences, arm.divergences);
  arm.watched.resize(scores.watched.size());
  for (size_t i = 0; i < scores.watched.size(); ++i) arm.watched[i] += scores.watched[i];
}

absl::StatusOr<std::vector<TokenScores>> ScoreLanes(const ForwardPass& pass,
                                                    absl::Span<const TokenWindow> windows,
                                                    const std::vector<ArmWindow>& lanes,
                                                    const RunContext& context,
                                                    absl::Span<const int32_t> watched) {
  ASSIGN_OR_RETURN(const Head head, pass.LoadHead());
  std::vector<ScoreLane> scored;
  for (size_t at = windows.size(); at < lanes.size(); ++at) {
    const ArmWindow& lane = lanes[at];
    // An arm without edits never left the untouched model.
    const Matrix& hidden = lane.hidden.rows > 0 ? lane.hidden : lanes[lane.window].hidden;
    const bool first = scored.size() < windows.size();
    scored.push_back({&hidden, windows[lane.window], first ? -1 : static_cast<int>(lane.window)});
  }
  return head.Score(scored, context, watched);
}

// Windows and arms in their order; the first arm stands in every batch.
std::vector<Batch> Divide(absl::Span<const TokenWindow> windows, absl::Span<const Arm> arms,
                          size_t streams) {
  const size_t others = std::clamp<size_t>(arms.size() - 1, 1, streams - 1);
  const size_t together = std::max<size_t>(1, streams / (1 + others));
  std::vector<Batch> batches;
  for (size_t window = 0; window < windows.size(); window += together) {
    for (size_t arm = 1; arm == 1 || arm < arms.size(); arm += others) {
      Batch& batch = batches.emplace_back(Batch{windows.subspan(window, together), {&arms[0]}});
      for (const Arm& other : arms.subspan(std::min(arm, arms.size()), others)) {
        batch.arms.push_back(&other);
      }
    }
  }
  return batches;
}

}  // namespace

size_t StreamsTogether(absl::Span<const TokenWindow> windows, int64_t hidden,
                       int64_t hidden_bytes) {
  size_t longest = 1;
  for (const TokenWindow& window : windows) longest = std::max(longest, window.size());
  const int64_t bytes =
      static_cast<int64_t>(longest) * hidden * static_cast<int64_t>(sizeof(float));
  return static_cast<size_t>(std::max<int64_t>(2, hidden_bytes / bytes));
}

absl::StatusOr<std::vector<ArmScores>> MeasureArms(
    const ForwardPass& pass, absl::Span<const TokenWindow> windows, absl::Span<const Arm> arms,
    const RunContext& context, absl::Span<const int32_t> watched, int64_t hidden_bytes) {
  std::vector<ArmScores> result(arms.size());
  const size_t streams = StreamsTogether(windows, pass.config().hidden, hidden_bytes);
  for (const Batch& batch : Divide(windows, arms, streams)) {
    ASSIGN_OR_RETURN(std::vector<ArmWindow> lanes, StartLanes(pass, batch));
    RETURN_IF_ERROR(RunLayers(pass, lanes, context));
    ASSIGN_OR_RETURN(const std::vector<TokenScores> scores,
                     ScoreLanes(pass, batch.windows, lanes, context, watched));
    const bool again = batch.arms.size() > 1 && batch.arms[1] != &arms[1];
    for (size_t i = again ? batch.windows.size() : 0; i < scores.size(); ++i) {
      const Arm* arm = batch.arms[i / batch.windows.size()];
      Append(scores[i], result[static_cast<size_t>(arm - arms.data())]);
    }
  }
  return result;
}

}  // namespace linchpin
