// What a person should know of a detection before relying on it.
#pragma once

#include <string>
#include <vector>

#include "detect/detection.h"

namespace linchpin {

// One sentence per limit of what was done; none where there is nothing to say.  Pure.
std::vector<std::string> NotesOn(const Detection& detection);

}  // namespace linchpin
