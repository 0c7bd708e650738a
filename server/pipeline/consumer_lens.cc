#include "pipeline/consumer_lens.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/status.h"
#include "quantize/linear_layers.h"
#include "quantize/plan.h"
#include "tensor/float8.h"

namespace linchpin {
namespace {

// Layers that transformers gives the tokens of all sequences as one matrix, so that
// compressed-tensors takes it for a single token.
constexpr std::array kFlattened = {"*.decoder.layers.*.fc1", "*.decoder.layers.*.fc2",  // opt
                                   "*.mlp.shared_expert.*"};                            // qwen2_moe

bool IsFlattened(const std::string& module) {
  return std::any_of(kFlattened.begin(), kFlattened.end(), [&module](const char* pattern) {
    return fnmatch(pattern, module.c_str(), 0) == 0;
  });
}

float LargestMagnitude(absl::Span<const float> values) {
  float largest = 0;
  for (const float x : values) largest = std::max(largest, std::fabs(x));
  return largest;
}

}  // namespace

void RoundToken(TokenRounding rounding, absl::Span<float> values) {
  if (rounding == TokenRounding::kNone) return;
  const bool integers = rounding == TokenRounding::kInt8;
  const float scale = LargestMagnitude(values) / (integers ? 127.5F : 448.0F);
  if (!(scale > 0)) return;
  for (float& x : values) {
    const float code = integers ? std::clamp(std::nearbyint(x / scale), -128.0F, 127.0F)
                                : RoundToF8E4M3(x / scale);
    x = code * scale;
  }
}

absl::StatusOr<std::unique_ptr<const LinearLens>> ConsumerLens::Of(
    const Checkpoint& checkpoint, const CompressionConfig& config) {
  std::unique_ptr<const LinearLens> lens;
  if (!config.compressed()) return lens;
  ASSIGN_OR_RETURN(const LinearLayers layers, LinearLayersOf(checkpoint));
  Roundings roundings;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::string& name = tensor.info.name;
    const auto role = layers.roles.find(name);
    const bool expert = role != layers.roles.end() && role->second.expert;
    if (!tensor.scales || expert) continue;
    const std::string module = ModuleOf(name);
    const TokenRounding rounding = config.RoundingOf(module);
    if (rounding != TokenRounding::kNone) roundings[name] = {rounding, IsFlattened(module)};
  }
  if (!roundings.empty()) lens.reset(new ConsumerLens(std::move(roundings)));
  return lens;
}

absl::StatusOr<std::unique_ptr<const SeenWeight>> ConsumerLens::Look(const Checkpoint&,
                                                                     const StoredTensor&,
                                                                     const RunContext&) const {
  return nullptr;
}

void ConsumerLens::ChangeInput(const LinearInputView& view, absl::Span<float> values) const {
  if (view.weights.empty()) return;
  const auto found = roundings_.find(view.weights.front());
  if (found == roundings_.end()) return;
  const auto [rounding, together] = found->second;
  const size_t step = together ? values.size() : static_cast<size_t>(view.input.columns);
  for (size_t first = 0; first < values.size(); first += step) {
    RoundToken(rounding, values.subspan(first, step));
  }
}

}  // namespace linchpin
