// Decides which tensors are quantized, and why the others are not.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/checkpoint.h"
#include "quantize/linear_layers.h"
#include "quantize/plan.h"

namespace linchpin {

class Classification {
 public:
  // `roles` of LinearLayersOf(checkpoint).
  Classification(const Checkpoint& checkpoint, TensorRoles roles, const QuantizeOptions& options);

  // One row per tensor of the checkpoint, with `quantized`, `kept_because` and
  // what the options say of all: no group, no outputs yet.
  std::vector<PlanRow> Rows() const;

  // Where layers that consumers fuse differ, those to be quantized are kept, too.
  void KeepFusedAlike(std::vector<PlanRow>& rows) const;

  // Null for what is no linear layer of a block.
  const TensorRole* LinearRole(const PlanRow& row) const;

 private:
  std::string KeptBecause(const StoredTensor& tensor) const;

  const Checkpoint& checkpoint_;
  const QuantizeOptions& options_;
  const SchemeTraits& scheme_;
  TensorRoles roles_;
  std::set<std::string> shared_;  // stored names that the metadata offers under others, too
};

// Whether a tensor or its module is called as one of the patterns says.
bool MatchesAny(const std::vector<std::string>& patterns, const std::string& tensor);

// OPTION_INVALID for a pattern of `ignore` or `include` that matches nothing.
absl::Status CheckPatterns(const Checkpoint& checkpoint, const QuantizeOptions& options);

}  // namespace linchpin
