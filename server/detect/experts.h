// What a pass through a mixture of experts says of them.
#pragma once

#include <vector>

#include "detect/detection.h"

namespace linchpin {

// Names those of `experts` experts that the layer's record does not hold.
void NameUnreached(int experts, LayerRecord& layer);

// The experts whose largest |output| is above the `expert_quantile` of all that
// were seen and above `expert_over_largest` of the largest, in a layer that
// forms a super activation (arXiv 2507.23279), by layer and expert.  An expert
// that no token reached is never among them.
std::vector<SuperExpert> FindSuperExperts(const Detection& detection);

}  // namespace linchpin
