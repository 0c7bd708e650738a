// One look at a run of the model: which activations are super, and which weights
// make them.
#pragma once

#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "detect/decomposition.h"
#include "detect/detection.h"

namespace linchpin {

struct Round {
  std::vector<SuperActivation> activations;  // by falling |peak|
  // Those that the scene's edits do not zero already, each once, its evidence
  // the largest activation that names it.
  std::vector<SuperWeight> weights;
};

absl::StatusOr<Round> LookAt(const Scene& scene);

// Where an edit stands, in the order of layers, experts, rows, columns.
inline auto PlaceOf(const DownProjEdit& edit) {
  return std::tuple(edit.layer, edit.expert, edit.row, edit.column);
}

// Takes the weight out of a run.
DownProjEdit Zeroing(const SuperWeight& weight);

}  // namespace linchpin
