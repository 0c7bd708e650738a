// How the linear layers of the blocks are seen, where that is not as they are
// stored: for measuring what a rounding does without writing a model.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "tensor/matrix.h"

namespace linchpin {

// What the input of a linear layer is made of.
enum class LinearInput {
  kAttention,  // the residual stream, normed: of queries, keys and values
  kMixed,      // the values that attention mixed: of the output projection
  kMlp,        // the residual stream, normed: of gate and up
  kDown,       // what gate and up made of it
  kHead,       // the residual stream after all layers, normed: of the output head
};

// What goes into linear layers that share their input, for some tokens of one
// sequence: an expert's see the tokens that are routed to it.  Valid during the call only.
struct LinearInputView {
  int layer = 0;  // -1 of the output head
  LinearInput kind = LinearInput::kAttention;
  absl::Span<const std::string_view> weights;  // their names
  MatrixView input;                            // [tokens, channels]
};

// A weight as a lens shows it.  Thread-safe.
class SeenWeight {
 public:
  // Rows are asked for from a multiple of this on.
  static constexpr int64_t kRows = 16;

  virtual ~SeenWeight() = default;
  // Rows [first, first + out.size() / columns) as they are stored, [out, in] or
  // [in, out], in float32.
  virtual absl::Status Read(int64_t first, absl::Span<float> out) const = 0;
};

// Thread-safe.  Embeddings, output head, routers, norms and biases are not seen
// through it; what goes into the output head is.
class LinearLens {
 public:
  virtual ~LinearLens() = default;

  // For one product; null: as it is stored.
  virtual absl::StatusOr<std::unique_ptr<const SeenWeight>> Look(
      const Checkpoint& checkpoint, const StoredTensor& weight,
      const RunContext& context) const = 0;

  virtual bool changes_inputs() const { return false; }
  // Changes, in place, what the layers are given: `values` is the view's input.
  virtual void ChangeInput(const LinearInputView& /*view*/, absl::Span<float> /*values*/) const {}
};

}  // namespace linchpin
