// The embedding and the output head in 8 bits, where that is asked for.
//
// Each becomes what stands beside the scheme in its table (SchemeTraits::outer),
// with one scale per row.  What goes into them is not weighed: their rules are
// signed or min-max.  What a consumer does not load is noted in the plan.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "checkpoint/checkpoint.h"
#include "quantize/linear_layers.h"
#include "quantize/plan.h"

namespace linchpin {

// Changes the rows of the two tensors, of tied ones the one, and fills
// Plan::outer.  What `ignore` matches stays.  OPTION_INVALID for a tensor that
// the scheme cannot hold, or a family that is not known.
absl::Status QuantizeOuterLayers(const Checkpoint& checkpoint,
                                 const std::optional<OuterTensors>& tensors, Plan& plan);

}  // namespace linchpin
