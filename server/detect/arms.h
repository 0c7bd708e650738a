// The same tokens through a model and through changed copies of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "forward/forward_pass.h"

namespace linchpin {

using TokenWindow = std::vector<int32_t>;

// Residual streams of so many bytes are held at once, and of two windows at
// least; where there are more the weights are read again.
inline constexpr int64_t kHiddenBytes = int64_t{128} << 20;

// So many residual streams of the longest of `windows` fit, two at least.
size_t StreamsTogether(absl::Span<const TokenWindow> windows, int64_t hidden,
                       int64_t hidden_bytes = kHiddenBytes);

// A super activation that is put back: after `layer` the residual stream's
// `channel` is the untouched model's again, at the token of each window where
// that is largest.
struct RestoredActivation {
  int layer = 0;
  int64_t channel = 0;
};

// A changed copy of a model.
struct Arm {
  std::vector<DownProjEdit> edits;
  std::vector<RestoredActivation> restored = {};
};

// Of every predicted token of every window, in order; nats.
struct ArmScores {
  std::vector<float> losses;  // cross entropy
  std::vector<float>
      divergences;              // Kullback-Leibler, of the arm from the first; of the first: empty
  std::vector<double> watched;  // of every id that was watched: its probabilities' sum
};

// One result per arm.  The first arm is what the others are measured against:
// let it have no edits.  Arms and windows share one reading of the weights, as
// many as kHiddenBytes lets: an arm leaves the untouched model's hidden state
// at its first edited layer.
absl::StatusOr<std::vector<ArmScores>> MeasureArms(const ForwardPass& pass,
                                                   absl::Span<const TokenWindow> windows,
                                                   absl::Span<const Arm> arms,
                                                   const RunContext& context,
                                                   absl::Span<const int32_t> watched = {},
                                                   int64_t hidden_bytes = kHiddenBytes);

}  // namespace linchpin
