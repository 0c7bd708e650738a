// Rounds weights by any scheme and writes what a reader of the scheme would get,
// in the row's dtype: the dense output.
#pragma once

#include <memory>

#include "quantize/slab_encoder.h"

namespace linchpin {

// Super weights that the row holds out are put back.  As MakeEncoder.
std::unique_ptr<SlabEncoder> MakeDenseEncoder(const QuantizeOptions& options, const PlanRow& row,
                                              const Importance* importance);

}  // namespace linchpin
