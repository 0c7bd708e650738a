// What of a forward pass LibTorch computes: an interface of plain data, so that
// LibTorch is loaded when a pass first needs it (forward/libtorch_module.h).
//
// The code behind it (forward/libtorch/) uses nothing of this program but what is
// handed to it here, and the headers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/run_context.h"
#include "checkpoint/model_config.h"
#include "forward/forward_pass.h"
#include "forward/linear_lens.h"
#include "forward/model_tensors.h"
#include "forward/row_products.h"
#include "tensor/matrix.h"

namespace linchpin {

// Of scores in all their forms, and of keys and values: so many elements are
// held at once per lane while it attends.
inline constexpr int64_t kAttentionLaneElements = int64_t{6} << 22;

// The weights of a model, through a lens where there is one.  Thread-safe.
class WeightReader {
 public:
  virtual ~WeightReader() = default;

  virtual const LinearLens* lens() const = 0;  // or null

  // A whole tensor as float32, as it is stored; `out` holds its elements.
  virtual absl::Status ReadTensor(const ExpectedTensor& tensor, absl::Span<float> out) const = 0;
  // All of a linear layer's weight, [out, in] or [in, out], as the lens shows it.
  virtual absl::Status ReadWeight(const LinearTensors& linear, const RunContext& context,
                                  absl::Span<float> out) const = 0;
  // One output channel of it, [in].
  virtual absl::Status ReadChannel(const LinearTensors& linear, int64_t channel,
                                   absl::Span<float> out) const = 0;
  // out [tokens, rows] = x [tokens, columns] times the weight [rows, columns], which is
  // not transposed.  Slabs of rows are spread over the context's threads; the result does
  // not depend on their number.  Weights of 16 bits are multiplied as they are stored.
  virtual absl::Status Multiply(const LinearTensors& linear, MatrixView x, float* out,
                                const RunContext& context) const = 0;

  // Rows [first, first + count) of a matrix as they are stored, or as float32 where they
  // are encoded or scaled, past the lens.  They stay in `memory`, a float for each element.
  virtual absl::StatusOr<StoredRows> ReadRows(const ExpectedTensor& matrix, int64_t first,
                                              int64_t count, absl::Span<float> memory) const = 0;
  // As MultiplyRows (forward/row_products.h).
  virtual void MultiplyRows(const StoredRows& rows, const float* x, int64_t tokens, float* out,
                            int64_t stride) const = 0;
};

// One layer of a model.
struct ModelLayer {
  int index = 0;
  const ModelConfig& config;
  const LayerTensors& tensors;
  const WeightReader& weights;
};

// What Head does, without its model.
class HeadComputation {
 public:
  virtual ~HeadComputation() = default;
  virtual int64_t vocab() const = 0;
  virtual absl::StatusOr<std::vector<TokenScores>> Score(
      absl::Span<const ScoreLane> lanes, const RunContext& context,
      absl::Span<const int32_t> watched) const = 0;
  virtual absl::StatusOr<std::vector<float>> LastLogits(const Matrix& hidden) const = 0;
};

// No exception leaves it: what LibTorch throws becomes INTERNAL.  Thread-safe.
class Computation {
 public:
  virtual ~Computation() = default;

  // Takes lanes through a layer, all side by side; see ForwardPass::RunLayer.  False,
  // and they stay where they were, if what comes out is not finite.
  virtual absl::StatusOr<bool> RunLayer(const ModelLayer& layer, absl::Span<const Lane> lanes,
                                        const RunContext& context) const = 0;
  // Reads the norm in front of the output projection, and its bias.
  virtual absl::StatusOr<std::unique_ptr<const HeadComputation>> LoadHead(
      const ModelConfig& config, const NormTensors& norm, const LinearTensors& output,
      std::shared_ptr<const WeightReader> weights) const = 0;
};

}  // namespace linchpin
