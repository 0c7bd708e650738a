// Runs a check on each instruction set that this machine has (Google Highway).
#pragma once

#include <cstdint>

#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace linchpin {

// Calls `check(target)` with kernels of that target and no other, the best one first; in
// the end the choice is the machine's again.  A failure names its target.
template <typename Check>
void OnEveryTarget(const Check& check) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    check(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

// Whether a target fuses a product with its sum (forward/row_products.h).
inline bool FusesProducts(int64_t target) { return target < HWY_SSE4 || HWY_ARCH_ARM; }

}  // namespace linchpin
