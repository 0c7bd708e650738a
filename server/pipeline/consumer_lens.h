// A compressed model as its consumers run it: what they round on the way.
//
// As transformers with compressed-tensors does in float32: symmetrically, per
// token, to nearest, ties to even; the scale is the token's largest magnitude over
// 127.5 for integers and over 448 for F8_E4M3.  Experts' inputs stay as they are, as
// it unpacks experts while it loads them; where it flattens sequences before a layer,
// all tokens of one share a scale.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/compression_config.h"
#include "forward/linear_lens.h"

namespace linchpin {

// Replaces activations that share a scale by what their codes stand for.
void RoundToken(TokenRounding rounding, absl::Span<float> values);

class ConsumerLens : public LinearLens {
 public:
  // Of an unpacked checkpoint; null where nothing is rounded.  The errors of
  // LinearLayersOf.
  static absl::StatusOr<std::unique_ptr<const LinearLens>> Of(const Checkpoint& checkpoint,
                                                              const CompressionConfig& config);

  absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(const Checkpoint& checkpoint,
                                                         const StoredTensor& weight,
                                                         const RunContext& context) const override;
  bool changes_inputs() const override { return true; }
  void ChangeInput(const LinearInputView& view, absl::Span<float> values) const override;

 private:
  struct Entry {
    TokenRounding rounding = TokenRounding::kNone;
    bool together = false;  // all tokens of a sequence by one scale
  };
  using Roundings = std::map<std::string, Entry, std::less<>>;

  explicit ConsumerLens(Roundings roundings) : roundings_(std::move(roundings)) {}

  const Roundings roundings_;  // by the weight's name, of those that are rounded
};

}  // namespace linchpin
