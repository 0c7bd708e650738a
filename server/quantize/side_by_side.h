// Turns rows that lie one behind the other so that the elements of a column stand side by side,
// one row per lane (Google Highway); the same on every instruction set.
#pragma once

#include <cstdint>

namespace linchpin {

inline constexpr int64_t kSideBySide = 16;  // rows

// `rows` is [kSideBySide, columns], `turned` [columns, kSideBySide].
void StandSideBySide(const float* rows, int64_t columns, float* turned);

}  // namespace linchpin
