// A text of our own, for what needs one and was given none: a proof, importance.
#pragma once

#include <string_view>

namespace linchpin {

// Plain English prose, about 250 tokens in most vocabularies.
std::string_view NeutralText();

// A few lines of code, another kind of text.
std::string_view CodeText();

}  // namespace linchpin
