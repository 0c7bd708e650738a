// What weights alone say of where super weights stand: no forward pass.
//
// An MLP's row k of down_proj gets the score
//   U_k = sqrt( sum_i W_down[k, i]^2 |gate_i|^2 |up_i|^2 ),
// gate_i and up_i being the rows of gate_proj and up_proj (up_i alone where
// there is no gate): how much the row can make of inputs of one length.  A
// second opinion, and the answer for models that are too large to run or of a
// family that is not known: it needs the names of the MLP's tensors only, those
// that any known family uses.  It ranks; it does not judge.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "detect/detection.h"

namespace linchpin {

// The `count` rows of all layers and experts whose score is largest over the
// median of its matrix.  Reads every MLP once, on the context's threads.
// FAMILY_UNSUPPORTED where no tensor has a known name, DTYPE_UNSUPPORTED and the
// errors of reading; NOT_FINITE naming a down_proj whose scores are not.
absl::StatusOr<std::vector<Suspect>> SuspectRows(const Checkpoint& checkpoint, size_t count,
                                                 const RunContext& context);

// Sets the ranks by weights alone of a detection's super weights.  Reads the
// MLPs that they stand in, each once.
absl::Status RankByWeights(const Checkpoint& checkpoint, const RunContext& context,
                           Detection& detection);

}  // namespace linchpin
