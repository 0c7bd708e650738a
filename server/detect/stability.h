// Whether several prompts find the same.
#pragma once

#include <string>
#include <vector>

#include "detect/detection.h"

namespace linchpin {

// The first of `detections`, one per prompt and with its name, with the
// agreement of each of its super weights and of the whole set.  What another
// prompt found beside them stands in that prompt's record only.
Detection WithStability(const std::vector<std::string>& names, std::vector<Detection> detections);

}  // namespace linchpin
