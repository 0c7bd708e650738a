// Weights and activations of 8 bits: tables 3 and 4 of the super weight paper
// (Yu et al., arXiv 2411.07191).
//
// Weights are rounded per output channel, what goes into a linear layer per
// token, symmetrically and to nearest, as compressed-tensors has it: the scale is
// the largest magnitude over 127.5.  All arithmetic is float32.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "detect/detection.h"
#include "forward/forward_pass.h"
#include "pipeline/analyses.h"
#include "pipeline/planned_lens.h"
#include "quantize/plan.h"

namespace linchpin {

// Where a super activation stands in the inputs of linear layers: at the token
// of each sequence where the channel is largest.
struct SparedActivation {
  int after_layer = -1;  // of the residual stream, normed, in all later layers
  std::string weight;    // or, not empty, of the input of this weight alone
  int64_t channel = 0;
};

// In the residual stream from the layer after its onset on, and in the input
// of each super weight's tensor.
std::vector<SparedActivation> SparedActivations(const Detection& detection);

// Rounds weights by its plan, and the inputs of those that it rounds.
class EightBitLens : public PlannedLens {
 public:
  // Inputs are divided by the scales that their weights are multiplied by.  What
  // is spared is replaced by the median of the sequence's input before it is
  // rounded, and put back.
  EightBitLens(Plan plan, ChannelScales smoothing, std::vector<SparedActivation> spared);

  bool changes_inputs() const override { return true; }
  void ChangeInput(const LinearInputView& view, absl::Span<float> values) const override;

 private:
  const std::vector<SparedActivation> spared_;
};

// "w8a8"; "smoothquant", its factors from the calibration; "super_outlier_aware".
// The checkpoint and the detection must outlive the result.  The errors of
// Calibration::Start and MakePlan.
absl::StatusOr<std::vector<LensArm>> ActivationArms(const Checkpoint& checkpoint,
                                                    const ForwardPass& pass,
                                                    const AnalysisOptions& options,
                                                    const Detection& detection,
                                                    const RunContext& context);

}  // namespace linchpin
