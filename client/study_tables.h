// A study of super weights as a person reads it.
#pragma once

#include <string>
#include <string_view>

namespace linchpin {

// From the JSON document of a detection, or the manifest that it stands in: what
// pruning and scaling do, maxima per layer and frequent tokens.  Empty where there is
// no study.
std::string StudyText(std::string_view document);

}  // namespace linchpin
