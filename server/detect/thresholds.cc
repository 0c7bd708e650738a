#include "detect/thresholds.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr double kAny = 1e30;
constexpr double kCount = 1e15;  // whole numbers up to here are exact
constexpr double kDraws = 64;    // each costs a run of the model

template <auto kMember>
Threshold Row(std::string_view name, double least, double most) {
  using Value = std::remove_cvref_t<decltype(DetectOptions().*kMember)>;
  return {
      name,
      least,
      std::is_same_v<Value, int> ? std::min<double>(most, std::numeric_limits<int>::max()) : most,
      std::is_integral_v<Value>,
      [](const DetectOptions& options) { return static_cast<double>(options.*kMember); },
      [](DetectOptions& options, double value) { options.*kMember = static_cast<Value>(value); }};
}

std::string Names() {
  std::string names;
  for (const Threshold& threshold : Thresholds()) {
    names += names.empty() ? "" : ", ";
    names += threshold.name;
  }
  return names;
}

}  // namespace

absl::Span<const Threshold> Thresholds() {
  using O = DetectOptions;
  static const auto& table =
      *new std::vector<Threshold>{Row<&O::peak_over_median>("peak_over_median", 0, kAny),
                                  Row<&O::made_peak_over_median>("made_peak_over_median", 0, kAny),
                                  Row<&O::made_over_median>("made_over_median", 0, kAny),
                                  Row<&O::peak_over_largest>("peak_over_largest", 0, 1),
                                  Row<&O::keep_fraction>("keep_fraction", 0, 1),
                                  Row<&O::keep_layers>("keep_layers", 0, 1),
                                  Row<&O::min_later>("min_later", 0, 1),
                                  Row<&O::left_out>("left_out", 0, kCount),
                                  Row<&O::min_jump>("min_jump", 0, 1),
                                  Row<&O::min_change>("min_change", 0, kAny),
                                  Row<&O::max_contributors>("max_contributors", 1, kCount),
                                  Row<&O::explain_low>("explain_low", 0, kAny),
                                  Row<&O::explain_high>("explain_high", 0, kAny),
                                  Row<&O::top_weights>("top_weights", 1, kCount),
                                  Row<&O::top_weight_fraction>("top_weight_fraction", 0, 1),
                                  Row<&O::weight_over_column>("weight_over_column", 0, kAny),
                                  Row<&O::top_inputs>("top_inputs", 1, kCount),
                                  Row<&O::min_share>("min_share", 0, 1),
                                  Row<&O::output_over_median>("output_over_median", 0, kAny),
                                  Row<&O::gain_over_median>("gain_over_median", 0, kAny),
                                  Row<&O::expert_quantile>("expert_quantile", 0, 1),
                                  Row<&O::expert_over_largest>("expert_over_largest", 0, 1),
                                  Row<&O::max_rounds>("max_rounds", 1, kDraws),
                                  Row<&O::null_draws>("null_draws", 0, kDraws),
                                  Row<&O::critical_ratio>("critical_ratio", 0, kAny),
                                  Row<&O::critical_interval>("critical_interval", 0, kAny),
                                  Row<&O::joint_factor>("joint_factor", 0, kAny)};
  return table;
}

absl::Status SetThreshold(std::string_view name, double value, DetectOptions& options) {
  for (const Threshold& threshold : Thresholds()) {
    if (threshold.name != name) continue;
    const bool fits = value >= threshold.least && value <= threshold.most &&
                      (!threshold.whole || value == std::floor(value));
    if (fits) {
      threshold.set(options, value);
      return absl::OkStatus();
    }
    return Error(Reason::kOptionInvalid, fmt::format("threshold {}", name),
                 fmt::format("it is {}", value),
                 fmt::format("give a {} from {} to {}", threshold.whole ? "whole number" : "number",
                             threshold.least, threshold.most));
  }
  return Error(Reason::kOptionInvalid, fmt::format("threshold {}", name),
               "there is none of that name", fmt::format("known are {}", Names()));
}

}  // namespace linchpin
