// What a detection is drawn as.
#pragma once

#include <string>

#include "client/json_value.h"

namespace linchpin {

// Charts of the layers' largest values and, where there was a study, of the
// residual stream without the super weights, of the perplexity over their scale,
// and a table of the frequent tokens' probabilities.  HTML; empty for no layers.
std::string DetectionFigures(const JsonValue& detection);

}  // namespace linchpin
