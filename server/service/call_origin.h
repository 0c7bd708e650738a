// Where a call comes from: who makes it, and the trace that it belongs to.
#pragma once

#include <string>
#include <string_view>

#include "identity/gate.h"

namespace linchpin {

struct CallOrigin {
  Caller caller;
  std::string trace;  // 32 hexadecimal digits, or empty
};

// The trace id of a W3C `traceparent`, "00-<trace>-<span>-<flags>"; empty for
// anything else.  https://www.w3.org/TR/trace-context
std::string TraceOf(std::string_view traceparent);

}  // namespace linchpin
