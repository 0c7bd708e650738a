#include "pipeline/smoothing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "pipeline/calibration.h"

namespace linchpin {
namespace {

constexpr float kSmallest = 1e-5F;
constexpr int64_t kSlabElements = 1 << 20;

// Largest magnitudes per input channel, of layers that share their input.
struct Group {
  std::vector<std::string> weights;
  std::vector<float> largest;
};

void TakeLargest(absl::Span<const float> row, std::vector<float>& largest) {
  for (size_t i = 0; i < row.size(); ++i) largest[i] = std::max(largest[i], std::fabs(row[i]));
}

class MaximumTap : public Tap {
 public:
  void OnLinearInput(const LinearInputView& view) override {
    const bool of_stream = view.kind == LinearInput::kAttention || view.kind == LinearInput::kMlp;
    if (!of_stream || view.weights.empty()) return;
    Group& group = groups[std::string(view.weights.front())];
    group.weights.assign(view.weights.begin(), view.weights.end());
    group.largest.resize(static_cast<size_t>(view.input.columns));
    for (int64_t row = 0; row < view.input.rows; ++row) {
      TakeLargest(view.input.Row(row), group.largest);
    }
  }

  std::map<std::string, Group> groups;  // by the first weight
};

absl::Status AddWeight(const Checkpoint& checkpoint, const std::string& name,
                       const RunContext& context, std::vector<float>& largest) {
  ASSIGN_OR_RETURN(const StoredTensor* weight, checkpoint.Find(name));
  const int64_t rows = weight->info.shape[0];
  const int64_t step = std::max<int64_t>(1, kSlabElements / weight->info.shape[1]);
  for (int64_t first = 0; first < rows; first += step) {
    RETURN_IF_ERROR(context.Check());
    ASSIGN_OR_RETURN(const Matrix slab,
                     checkpoint.ReadRows(*weight, first, std::min(step, rows - first)));
    for (int64_t row = 0; row < slab.rows; ++row) TakeLargest(slab.View().Row(row), largest);
  }
  return absl::OkStatus();
}

// Turns a group's maxima into its factors.
absl::StatusOr<ChannelScale> FactorsOf(const Checkpoint& checkpoint, Group& group, double alpha,
                                       const RunContext& context) {
  std::vector<float> weights(group.largest.size(), kSmallest);
  for (const std::string& name : group.weights) {
    RETURN_IF_ERROR(AddWeight(checkpoint, name, context, weights));
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const double factor = std::pow(static_cast<double>(group.largest[i]), alpha) /
                          std::pow(static_cast<double>(weights[i]), 1 - alpha);
    group.largest[i] = std::max(kSmallest, static_cast<float>(factor));
  }
  return std::move(group.largest);
}

}  // namespace

absl::StatusOr<ChannelScales> SmoothingScales(const Checkpoint& checkpoint, const ForwardPass& pass,
                                              const TokenSource& calibration, double alpha,
                                              const RunContext& context) {
  ChannelScales scales;
  // A row of theirs is no output channel, and no plan rounds them.
  if (pass.config().architecture.transposed) return scales;
  ASSIGN_OR_RETURN(Calibration tokens, Calibration::Start(checkpoint, pass, calibration));
  MaximumTap tap;
  const auto after_layer = [&](int /*layer*/) -> absl::Status {
    for (auto& [first, group] : tap.groups) {
      ASSIGN_OR_RETURN(ChannelScale factors, FactorsOf(checkpoint, group, alpha, context));
      const auto shared = std::make_shared<const ChannelScale>(std::move(factors));
      for (const std::string& name : group.weights) scales[name] = shared;
    }
    tap.groups.clear();
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(tokens.Run(pass, tap, context, after_layer));
  return scales;
}

}  // namespace linchpin
