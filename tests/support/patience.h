// How tests wait: for what happens, never for a time.
#pragma once

#include <chrono>
#include <thread>

namespace linchpin {

// For what must come.  Only a test that fails waits so long; none that passes
// depends on it, however slow or loaded the machine is.
inline constexpr std::chrono::seconds kPatience{300};

// Whether `condition` comes to hold.
template <class Condition>
bool Comes(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace linchpin
