// How AWQ (Lin et al., arXiv 2306.00978) would scale the input channel of a super
// weight: it meets super weights without looking for them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"
#include "pipeline/tokens.h"
#include "tensor/matrix.h"
#include "tensor/weight_position.h"

namespace linchpin {

// The best of the scales s = mean|x|^exponent, 1e-4 at least, divided by
// sqrt(max s min s), exponent = 0, 1/20 .. 19/20: that with the least squared error of
// the layer's output, its weights being round(W s) / s at 4 bits in asymmetric groups
// of 128 (or the largest of 64 and 32 that divides a row, else per channel).
struct AwqSearch {
  double exponent = 0;
  std::vector<float> scales;  // per input channel
  double error_ratio = 1;     // over that of exponent 0
};

// Of one matrix [out, in] on `input` [tokens, in].  The search does not depend on the
// number of threads.  FEATURE_UNSUPPORTED for rows that are no multiple of 8
// or not as long as the input.
absl::StatusOr<AwqSearch> SearchAwqScales(const Checkpoint& checkpoint, const std::string& weight,
                                          MatrixView input, const RunContext& context);

// Of one super weight, in the numbers of its tensor's search.
struct AwqScale {
  WeightPosition position;
  double exponent = 0;
  double scale = 1;         // of its input channel
  double median_scale = 1;  // of all channels, the lower of the two in the middle
  double largest_scale = 1;
  double error_ratio = 1;
};

// Of every super weight that a token reaches, in their order, on the tokens of `calibration`
// (empty: the built-in paragraph).  The errors of Calibration::Start.
absl::StatusOr<std::vector<AwqScale>> AwqScalesOf(const Checkpoint& checkpoint,
                                                  const ForwardPass& pass,
                                                  const Detection& detection,
                                                  const TokenSource& calibration,
                                                  const RunContext& context);

}  // namespace linchpin
