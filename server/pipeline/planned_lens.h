// A model's linear layers as a reader of its dense output would find them,
// without writing one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "forward/linear_lens.h"
#include "quantize/plan.h"

namespace linchpin {

// Per input channel; by the weight's name, those of one input together.
using ChannelScale = std::vector<float>;
using ChannelScales = std::map<std::string, std::shared_ptr<const ChannelScale>, std::less<>>;

// Rounds by the encoders of quantize/, so that what is seen is what is written.
class PlannedLens : public LinearLens {
 public:
  // `plan` is one of Format::kDense.  Weights in `scales`, which are read as
  // float32, are multiplied by theirs before they are rounded.
  explicit PlannedLens(Plan plan, ChannelScales scales = {});

  PlannedLens(const PlannedLens&) = delete;  // its index points into it
  PlannedLens& operator=(const PlannedLens&) = delete;

  // NOT_FINITE, when it is read, for a weight that holds a NaN or an infinite value.
  absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(const Checkpoint& checkpoint,
                                                         const StoredTensor& weight,
                                                         const RunContext& context) const override;

 protected:
  // Null for a weight that stays as it is.
  const PlanRow* QuantizedRow(std::string_view weight) const;
  // Null for a weight that has none.
  const ChannelScale* ScaleOf(std::string_view weight) const;

 private:
  const Plan plan_;
  const ChannelScales scales_;
  std::map<std::string_view, const PlanRow*> rows_;  // those that are quantized
};

}  // namespace linchpin
