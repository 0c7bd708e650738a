// The numbers of a detection's rules by name, as one table: how they are
// printed, and how a caller sets them.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "detect/detection.h"

namespace linchpin {

struct Threshold {
  std::string_view name;  // as in DetectOptions
  double least = 0;
  double most = 0;
  bool whole = false;  // takes whole numbers only
  double (*get)(const DetectOptions&) = nullptr;
  void (*set)(DetectOptions&, double) = nullptr;
};

// In the order in which they are printed.
absl::Span<const Threshold> Thresholds();

// OPTION_INVALID, naming what is known or allowed, for a name that is not in
// the table or a value outside its range.
absl::Status SetThreshold(std::string_view name, double value, DetectOptions& options);

}  // namespace linchpin
