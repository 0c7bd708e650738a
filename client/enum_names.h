// The API's enums in the spelling of the command line and its JSON.
#pragma once

#include <string_view>

#include "linchpin/v1/compression.pb.h"

namespace linchpin {

std::string_view NameOf(v1::Verdict verdict);
std::string_view NameOf(v1::WeightClass weight_class);
std::string_view NameOf(v1::Preserve preserve);

// True if what a consumer reads has the very bits of the source.
bool IsExact(const v1::KeptWeight& weight);

}  // namespace linchpin
