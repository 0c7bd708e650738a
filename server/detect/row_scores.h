// What each row of a down_proj can make of inputs of one length, by weights alone.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/mlp_names.h"

namespace linchpin {

// Of one down_proj W [hidden, intermediate]; see weight_prior.h.
struct RowScores {
  struct Row {
    double squared = 0;  // U_k^2, the sum of the parts of its weights
    double largest = 0;  // of the parts
    int64_t column = 0;  // of the weight that has it, the first of equals
    float value = 0;     // that weight
  };
  std::vector<double> scales;  // |gate_i|^2 |up_i|^2 of every neuron i
  std::vector<Row> rows;

  // Of a weight in U_k^2.
  double PartOf(int64_t column, float value) const {
    return static_cast<double>(value) * value * scales[static_cast<size_t>(column)];
  }
  // The lower of the two middle scores.
  double MedianScore() const;
};

// Reads the MLP once, in slabs, on the threads of the context; the same whatever their
// number.  NOT_FINITE naming the down_proj if a score is not.
absl::StatusOr<RowScores> ScoreRows(const Checkpoint& checkpoint, const NamedMlp& mlp,
                                    const RunContext& context);

}  // namespace linchpin
