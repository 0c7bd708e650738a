// What roundings make of a model, as the super weight paper measures it (Yu et
// al., arXiv 2411.07191, figure 7 and tables 3 and 4), without writing a model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"
#include "forward/linear_lens.h"
#include "pipeline/tokens.h"
#include "tensor/weight_position.h"

namespace linchpin {

inline constexpr int64_t kWholeTensor = -1;

struct AnalysisOptions {
  bool arms = false;
  // Elements of a block, or kWholeTensor; the paper's 128^2 to 1024^2.
  std::vector<int64_t> blocks = {16384, 65536, 262144, 1048576, kWholeTensor};
  int bits = 4;
  float z = 9;  // clips to mean|w| + z std|w|
  bool activations = false;
  double smoothing = 0.85;  // SmoothQuant's alpha
  bool awq = false;
  TokenSource calibration;  // of SmoothQuant and AWQ; empty: the built-in paragraph
  DetectOptions detect;     // by which super weights are looked for

  bool any() const { return arms || activations || awq; }
};

// OPTION_INVALID, naming the option and its bounds.
absl::Status CheckOptions(const AnalysisOptions& options);

// A rounded copy of the model: made when its turn comes, as a plan of a large
// model takes memory.
struct LensArm {
  std::string name;
  int64_t block = 0;  // as in AnalysisOptions; 0 where there are none
  std::function<absl::StatusOr<std::unique_ptr<const LinearLens>>()> make;
};

// Four per block size: "rtn", "rtn_clip", "rtn_clip_restore", "rtn_held_out".
// All must outlive the result.
std::vector<LensArm> WeightArms(const Checkpoint& checkpoint, const AnalysisOptions& options,
                                const std::vector<PinnedWeight>& super_weights);

}  // namespace linchpin
