// The same windows through a model, another and rounded copies of it, one after
// the other: loss and divergence.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/arms.h"
#include "forward/forward_pass.h"
#include "pipeline/analyses.h"

namespace linchpin {

struct Model {
  // The pass points to both.
  std::unique_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<const LinearLens> lens;  // null: the model is as it is stored
  ForwardPass pass;
  Head head;
};

// Over the predicted tokens of one model.
struct LossSums {
  double loss = 0;
  double kl = 0;
  int64_t tokens = 0;

  void Add(const TokenScores& scores);
  double Loss() const;
  double Divergence() const;  // never negative
};

// All that it is made of must outlive it, the arms apart.
class Measurement {
 public:
  Measurement(const Model& own, const std::optional<Model>& against, std::vector<LensArm> arms,
              const RunContext& context);

  // Takes in windows whose residual streams fit twice.
  absl::Status Add(absl::Span<const TokenWindow> windows);

  // With a second model, of the divergence from that.
  const LossSums& own() const { return of_own_; }
  const LossSums& against() const { return of_against_; }
  const std::vector<LensArm>& arms() const { return arms_; }
  // Parallel to the arms, of the divergence from the model itself.
  const std::vector<LossSums>& of_arms() const { return of_arms_; }

 private:
  const Model& own_;
  const std::optional<Model>& against_;
  const std::vector<LensArm> arms_;
  const RunContext& context_;
  LossSums of_own_;
  LossSums of_against_;
  std::vector<LossSums> of_arms_;
};

}  // namespace linchpin
