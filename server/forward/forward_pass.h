// Runs a model layer by layer and shows its activations to a Tap.
//
// Weights are read in slabs while they are used and never kept; activations and
// the residual stream are float32, whatever the checkpoint's dtype.  The caller
// drives the layers, so that several token sequences, with and without edits,
// share one reading of the weights:
//
//   for (int i = 0; i < pass.layers(); ++i) {
//     RETURN_IF_ERROR(pass.RunLayer(i, lanes, context));
//   }
//
// What the families differ in is data (checkpoint/architecture.h).
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
#include "forward/linear_lens.h"
#include "forward/model_tensors.h"
#include "tensor/matrix.h"

namespace linchpin {

// What went into one down_proj and came out of it, for some tokens of a lane.
// Valid during the call only.
struct DownProjView {
  int layer = 0;
  int expert = kNoExpert;
  absl::Span<const int64_t> tokens;  // of each row, ascending
  absl::Span<const float> weights;   // how much of each row's output the layer adds; 1 if dense
  MatrixView input;                  // [tokens, intermediate]
  MatrixView output;                 // [tokens, hidden], before any norm
};

// Sees activations as they pass.  Views are valid during the call only.
class Tap {
 public:
  virtual ~Tap() = default;
  virtual void OnDownProj(const DownProjView& /*view*/) {}
  // Once for every group of linear layers of a block, routers left out, before a
  // lens changes it.
  virtual void OnLinearInput(const LinearInputView& /*view*/) {}
  // What the MLP, all experts and the norm after it included, adds to the
  // residual stream [tokens, hidden].
  virtual void OnMlp(int /*layer*/, MatrixView /*added*/) {}
  // The residual stream after the layer [tokens, hidden].
  virtual void OnResidual(int /*layer*/, MatrixView /*hidden*/) {}
};

// Puts `value` at [row, column] of a layer's down_proj for one run; the
// checkpoint is never touched.
struct DownProjEdit {
  int layer = 0;
  int64_t row = 0;     // output channel
  int64_t column = 0;  // input channel
  float value = 0;
  int expert = kNoExpert;
};

// One token sequence on its way through the layers.
struct Lane {
  Matrix* hidden = nullptr;              // [tokens, hidden], taken on in place
  absl::Span<const DownProjEdit> edits;  // those of other layers are ignored
  Tap* tap = nullptr;                    // may be null
};

class Head;
class HeadComputation;
class WeightReader;

// A token sequence at the end of the layers: `hidden` [tokens, hidden] and the ids it came from.
struct ScoreLane {
  const Matrix* hidden = nullptr;
  absl::Span<const int32_t> token_ids;
  // The lane, of the same ids, that it is measured against; -1: none.
  int reference = -1;
  // Of the model that it went through, if not the head that is asked; with as
  // large a vocabulary.
  const Head* head = nullptr;
};

// Value i is for predicting token_ids[i + 1]: tokens - 1 values, in nats.
struct TokenScores {
  std::vector<float> losses;  // cross entropy
  // Kullback-Leibler divergence of the lane's prediction from its reference's;
  // empty without one.
  std::vector<float> divergences;
  // Of every id that was watched: its probability, summed over the positions.
  std::vector<float> watched;
};

// The final norm and the output projection, which is read in slabs of rows so
// that a large vocabulary costs no memory.
class Head {
 public:
  Head(Head&&) noexcept;
  Head& operator=(Head&&) noexcept;
  ~Head();

  int64_t vocab() const;
  // One reading of the projection serves all lanes.
  absl::StatusOr<std::vector<TokenScores>> Score(absl::Span<const ScoreLane> lanes,
                                                 const RunContext& context,
                                                 absl::Span<const int32_t> watched = {}) const;
  // Logits of the last position, [vocab].
  absl::StatusOr<std::vector<float>> LastLogits(const Matrix& hidden) const;

  const HeadComputation& computation() const { return *computation_; }

 private:
  friend class ForwardPass;
  explicit Head(std::unique_ptr<const HeadComputation> computation);
  std::unique_ptr<const HeadComputation> computation_;
};

// Thread-safe.  `checkpoint` must outlive it.
class ForwardPass {
 public:
  // Checks that every tensor of the model is there with the shape that the
  // config demands (TENSOR_MISSING, TENSOR_SHAPE_INVALID, DTYPE_UNSUPPORTED),
  // and no bias that it denies (CONFIG_INVALID).  Reads no weights.  `lens`, if not
  // null, must outlive the pass.
  static absl::StatusOr<ForwardPass> Open(const Checkpoint& checkpoint, ModelConfig config,
                                          const LinearLens* lens = nullptr);

  int layers() const { return static_cast<int>(config_->layers); }
  const ModelConfig& config() const { return *config_; }
  uint64_t layer_bytes() const { return layer_bytes_; }  // of the first layer, as stored
  // The down_proj of a layer or of one of its experts; no name where it has none.
  LinearTensors DownProj(int layer, int expert = kNoExpert) const {
    return tensors_->Mlp(layer, expert).down;
  }
  // One output channel of it: the weights [intermediate] and the bias, 0 if it has none.
  struct DownProjRow {
    std::vector<float> weights;
    float bias = 0;
  };
  absl::StatusOr<DownProjRow> ReadDownProjRow(int layer, int expert, int64_t row) const;
  int Experts(int layer) const { return tensors_->Experts(layer); }  // 0: one MLP

  // Embedded tokens, [tokens, hidden]; only those rows are read.  TOKENS_INVALID
  // for an empty list, an id outside the vocabulary or more tokens than the
  // model has positions.
  absl::StatusOr<Matrix> Embed(absl::Span<const int32_t> token_ids) const;
  // Takes every lane through one layer, from the residual stream before it to
  // the one after it.  Positions count from 0, attention is causal.  Lanes run
  // together, as many at a time as memory allows; threads as the context says.
  // NOT_FINITE naming the layer if a lane overflows or meets a NaN.
  absl::Status RunLayer(int index, absl::Span<const Lane> lanes, const RunContext& context) const;
  // Bytes of activations that RunLayer holds at most for lanes of up to so many tokens.
  static uint64_t ActivationBytes(const ModelConfig& config, int64_t longest, int threads);
  absl::StatusOr<Head> LoadHead() const;
  // The gain of the norm after a layer's MLP, [hidden]; empty where there is none.
  absl::StatusOr<std::vector<float>> MlpOutputGain(int layer) const;

 private:
  ForwardPass(const Checkpoint& checkpoint, ModelConfig config, const LinearLens* lens);

  const Checkpoint* checkpoint_;
  std::unique_ptr<const ModelConfig> config_;
  std::unique_ptr<const ModelTensors> tensors_;
  std::shared_ptr<const WeightReader> weights_;
  uint64_t layer_bytes_ = 0;
};

}  // namespace linchpin
