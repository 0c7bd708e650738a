// The API's enums in the spelling of the command line and its JSON.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "linchpin/v1/compression.pb.h"

namespace linchpin {

std::string_view NameOf(v1::Verdict verdict);
std::string_view NameOf(v1::WeightClass weight_class);

// What API and command line spell alike: "SCHEME_W4A16" is "w4a16".  An
// unspecified value has an empty name.
std::string NameOf(v1::Preserve preserve);
std::string NameOf(v1::Scheme scheme);
std::string NameOf(v1::ScaleRule rule);
std::vector<std::string> FormatNames();
std::vector<std::string> PreserveNames();
std::vector<std::string> SchemeNames();
std::vector<std::string> ScaleRuleNames();
// Unspecified for a name that is not listed.
v1::OutputFormat FormatNamed(std::string_view name);
v1::Preserve PreserveNamed(std::string_view name);
v1::Scheme SchemeNamed(std::string_view name);
v1::ScaleRule ScaleRuleNamed(std::string_view name);

// True if what a consumer reads has the very bits of the source.
bool IsExact(const v1::KeptWeight& weight);

}  // namespace linchpin
