// Runs a model layer by layer and shows its activations to a Tap.
//
// Weights are read one layer at a time and never more than one layer is held;
// activations and the residual stream are float32, whatever the checkpoint's
// dtype.  The caller drives the layers, so that several token sequences, with
// and without edits, share one reading of the weights:
//
//   Layer layer;
//   for (int i = 0; i < pass.layers(); ++i) {
//     RETURN_IF_ERROR(pass.LoadLayer(i, context, layer));
//     for (Matrix& hidden : lanes) RETURN_IF_ERROR(layer.Run(edits, tap, hidden));
//   }
//
// The llama family: grouped-query attention, rotary embeddings on half-rotated
// pairs, RMSNorm, SwiGLU (Touvron et al., arXiv 2302.13971 and 2307.09288).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "tensor/matrix.h"

namespace linchpin {

// Sees activations as they pass.  Views are valid during the call only.
class Tap {
 public:
  virtual ~Tap() = default;
  // The down_proj's input [tokens, intermediate] and output [tokens, hidden].
  virtual void OnDownProj(int /*layer*/, MatrixView /*input*/, MatrixView /*output*/) {}
  // The residual stream after the layer [tokens, hidden].
  virtual void OnResidual(int /*layer*/, MatrixView /*hidden*/) {}
};

// Puts `value` at down_proj.weight[row, column] of a layer for one run; the
// checkpoint is never touched.
struct DownProjEdit {
  int layer = 0;
  int64_t row = 0;     // output channel
  int64_t column = 0;  // input channel
  float value = 0;
};

// The weights of one decoder layer in memory, empty until loaded.  Run is
// thread-safe and uses the calling thread alone: run lanes side by side.
class Layer {
 public:
  Layer();
  Layer(Layer&&) noexcept;
  Layer& operator=(Layer&&) noexcept;
  ~Layer();

  // Takes `hidden` [tokens, hidden], the residual stream before the layer, to
  // the one after it, in place.  Edits of other layers are ignored; `tap` may
  // be null.  Positions count from 0, attention is causal.
  absl::Status Run(absl::Span<const DownProjEdit> edits, Tap* tap, Matrix& hidden) const;

 private:
  friend class ForwardPass;
  struct Weights;
  std::unique_ptr<Weights> weights_;
};

// A token sequence at the end of the layers: `hidden` [tokens, hidden] and the ids it came from.
struct LossLane {
  const Matrix* hidden = nullptr;
  absl::Span<const int32_t> token_ids;
};

// The final norm and the output projection, which is read in slabs of rows so
// that a large vocabulary costs no memory.
class Head {
 public:
  Head(Head&&) noexcept;
  Head& operator=(Head&&) noexcept;
  ~Head();

  // Per lane, the cross entropy in nats of each next token: value i is for
  // predicting token_ids[i + 1]; tokens - 1 values.  One reading of the
  // projection serves all lanes.
  absl::StatusOr<std::vector<std::vector<float>>> Losses(absl::Span<const LossLane> lanes,
                                                         const RunContext& context) const;
  // Logits of the last position, [vocab].
  absl::StatusOr<std::vector<float>> LastLogits(const Matrix& hidden) const;

 private:
  friend class ForwardPass;
  struct Weights;
  explicit Head(std::unique_ptr<Weights> weights);
  std::unique_ptr<Weights> weights_;
};

class ForwardPass {
 public:
  // Checks that every tensor of the model is there with the shape that the
  // config demands (TENSOR_MISSING, TENSOR_SHAPE_INVALID, DTYPE_UNSUPPORTED).
  // Reads no weights.  `checkpoint` must outlive the result.
  static absl::StatusOr<ForwardPass> Open(const Checkpoint& checkpoint, ModelConfig config);

  int layers() const { return static_cast<int>(config_.layers); }
  const ModelConfig& config() const { return config_; }
  uint64_t layer_bytes() const { return layer_bytes_; }  // of the first layer, as stored

  // Rows of the embedding, [tokens, hidden]; only those rows are read.
  // TOKENS_INVALID for an empty list or an id outside the vocabulary.
  absl::StatusOr<Matrix> Embed(absl::Span<const int32_t> token_ids) const;
  // Reads a layer into `layer`, whose memory is used again.  Several threads
  // read at once, as many as the context allows.
  absl::Status LoadLayer(int index, const RunContext& context, Layer& layer) const;
  absl::StatusOr<Head> LoadHead() const;

 private:
  ForwardPass(const Checkpoint& checkpoint, ModelConfig config, uint64_t layer_bytes)
      : checkpoint_(&checkpoint), config_(std::move(config)), layer_bytes_(layer_bytes) {}

  const Checkpoint* checkpoint_;
  ModelConfig config_;
  uint64_t layer_bytes_;
};

}  // namespace linchpin
