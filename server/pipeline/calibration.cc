#include "pipeline/calibration.h"

#include <algorithm>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

WindowOptions WindowsOf(const ModelConfig& config, int size, int count) {
  if (config.max_positions > 0) {
    size = static_cast<int>(std::min<int64_t>(size, config.max_positions));
  }
  return {size, count};
}

// A text that does not fill a window is taken as it is.
absl::StatusOr<std::vector<std::vector<int32_t>>> GivenTokens(const Checkpoint& checkpoint,
                                                              const ModelConfig& config,
                                                              const TokenSource& given) {
  auto windows =
      MakeWindows(checkpoint, config, given,
                  WindowsOf(config, kCalibrationWindows.size, kCalibrationWindows.count));
  if (windows.ok() || given.text.empty() || ReasonOf(windows.status()) != Reason::kOptionInvalid) {
    return windows;
  }
  ASSIGN_OR_RETURN(std::vector<int32_t> ids, MakePrompt(checkpoint, config, given));
  return std::vector<std::vector<int32_t>>{std::move(ids)};
}

}  // namespace

absl::StatusOr<Calibration> Calibration::Start(const Checkpoint& checkpoint,
                                               const ForwardPass& pass, const TokenSource& given) {
  const ModelConfig& config = pass.config();
  Calibration calibration;
  std::vector<std::vector<int32_t>> sequences;
  if (given.empty()) {
    ASSIGN_OR_RETURN(
        BuiltInTokens built_in,
        MakeBuiltInTokens(checkpoint, config, WindowsOf(config, kBuiltInWindow, /*count=*/1)));
    sequences = std::move(built_in.windows);
    calibration.origin_ =
        built_in.no_text_because.empty() ? TokenOrigin::kBuiltInText : TokenOrigin::kBuiltInIds;
  } else {
    ASSIGN_OR_RETURN(sequences, GivenTokens(checkpoint, config, given));
  }
  size_t tokens = 0;
  for (const std::vector<int32_t>& ids : sequences) tokens += ids.size();
  if (tokens > kMaxCalibrationTokens) {
    return Error(Reason::kTokensInvalid, "calibration",
                 fmt::format("there are {} tokens, {} are the most", tokens, kMaxCalibrationTokens),
                 "a few hundred are enough");
  }
  for (const std::vector<int32_t>& ids : sequences) {
    ASSIGN_OR_RETURN(Matrix hidden, pass.Embed(ids));
    calibration.hidden_.push_back(std::move(hidden));
  }
  return calibration;
}

std::vector<Lane> Calibration::Lanes(Tap& tap) {
  std::vector<Lane> lanes;
  for (Matrix& hidden : hidden_) lanes.push_back({&hidden, {}, &tap});
  return lanes;
}

absl::Status Calibration::Run(const ForwardPass& pass, Tap& tap, const RunContext& context,
                              const std::function<absl::Status(int layer)>& after_layer) {
  const std::vector<Lane> lanes = Lanes(tap);
  for (int i = 0; i < pass.layers(); ++i) {
    RETURN_IF_ERROR(context.Check());
    context.Report({Stage::kForward, fmt::format("calibration, layer {}", i),
                    static_cast<uint64_t>(i) * pass.layer_bytes(),
                    static_cast<uint64_t>(pass.layers()) * pass.layer_bytes()});
    RETURN_IF_ERROR(pass.RunLayer(i, lanes, context));
    RETURN_IF_ERROR(after_layer(i));
  }
  return absl::OkStatus();
}

int64_t Calibration::tokens() const {
  int64_t tokens = 0;
  for (const Matrix& hidden : hidden_) tokens += hidden.rows;
  return tokens;
}

}  // namespace linchpin
