#include "pipeline/analyses.h"

#include "base/status.h"
#include "fmt/format.h"
#include "pipeline/planned_lens.h"
#include "quantize/plan.h"

namespace linchpin {
namespace {

// Larger than any tensor, and far from overflow.
constexpr int64_t kEndless = int64_t{1} << 62;
// A block's statistics take 40 bytes: smaller ones would take more than their weights.
constexpr int64_t kSmallestBlock = 32;
constexpr size_t kMostBlocks = 16;

struct WeightArm {
  std::string_view name;
  bool clips;
  Preserve preserve;
};

// Where a scheme does not clip, a super weight that is put back is no part of its
// block's range.
constexpr WeightArm kWeightArms[] = {{"rtn", false, Preserve::kNone},
                                     {"rtn_clip", true, Preserve::kNone},
                                     {"rtn_clip_restore", true, Preserve::kRestore},
                                     {"rtn_held_out", false, Preserve::kRestore}};

absl::Status OutOfBounds(std::string_view option, std::string_view why, std::string_view bounds) {
  return Error(Reason::kOptionInvalid, option, why, fmt::format("give {}", bounds));
}

}  // namespace

absl::Status CheckOptions(const AnalysisOptions& options) {
  if (options.bits < 2 || options.bits > 8) {
    return OutOfBounds("analyses.bits", fmt::format("it is {}", options.bits), "2 to 8");
  }
  if (!(options.z > 0) || !(options.z <= 1e6F)) {
    return OutOfBounds("analyses.z", fmt::format("it is {}", options.z), "a number above 0");
  }
  if (!(options.smoothing > 0) || !(options.smoothing <= 1)) {
    return OutOfBounds("analyses.smoothing", fmt::format("it is {}", options.smoothing),
                       "a number above 0 and up to 1");
  }
  if (options.blocks.empty() || options.blocks.size() > kMostBlocks) {
    return OutOfBounds("analyses.blocks", fmt::format("there are {}", options.blocks.size()),
                       fmt::format("1 to {} sizes", kMostBlocks));
  }
  for (const int64_t block : options.blocks) {
    if (block == kWholeTensor || (block >= kSmallestBlock && block <= kEndless)) continue;
    return OutOfBounds(
        "analyses.blocks", fmt::format("one is {}", block),
        fmt::format("{} elements or more, or {} for a whole tensor", kSmallestBlock, kWholeTensor));
  }
  return absl::OkStatus();
}

std::vector<LensArm> WeightArms(const Checkpoint& checkpoint, const AnalysisOptions& options,
                                const std::vector<PinnedWeight>& super_weights) {
  std::vector<LensArm> arms;
  for (const int64_t block : options.blocks) {
    for (const WeightArm& arm : kWeightArms) {
      QuantizeOptions rounding{.format = Format::kDense,
                               .scheme = Scheme::kBlocks,
                               .scale = ScaleRule::kMinMax,
                               .preserve = arm.preserve};
      rounding.blocks = {.bits = options.bits,
                         .run = block == kWholeTensor ? kEndless : block,
                         .z = arm.clips ? options.z : 0};
      arms.push_back({std::string(arm.name), block,
                      [&checkpoint, rounding,
                       &super_weights]() -> absl::StatusOr<std::unique_ptr<const LinearLens>> {
                        ASSIGN_OR_RETURN(Plan plan, MakePlan(checkpoint, rounding, super_weights));
                        return std::make_unique<const PlannedLens>(std::move(plan));
                      }});
    }
  }
  return arms;
}

}  // namespace linchpin
